"""What a checkout can do beside the package; no wheel holds it."""
