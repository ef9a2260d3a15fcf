"""Real times: taken here, kept in label files, or published by others."""
