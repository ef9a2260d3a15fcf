"""For programs: reports in, JSON out; ``routes`` is the table of addresses."""
