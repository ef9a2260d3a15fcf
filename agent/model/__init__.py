"""The model: encoder bundles, heads fitted on this machine, and how accuracy is told."""
