"""The centre: makes, inspects and (later) publishes the encoder bundles the agents use."""
