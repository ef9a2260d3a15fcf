"""From programs and labels to an encoder, its prior, and the bundle they are exported to."""
