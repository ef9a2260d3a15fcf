"""Programs as numbers: a table of many nests, and the vector that an encoder reads."""
