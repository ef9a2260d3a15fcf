"""What came from the centre: read with every byte checked, tried in a child, kept installed."""
