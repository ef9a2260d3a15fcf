"""From a report to counts that may be shown: checked, counted once, released by tens."""
