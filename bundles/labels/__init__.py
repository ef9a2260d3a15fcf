"""Real times: taken here and kept in label files."""
