"""The fixed benchmark set: plain C99 loop nests, and set.toml with their sizes and schedules."""
