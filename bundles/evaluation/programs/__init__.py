"""Evaluation on real programs: C that nobody here wrote, timed on this machine."""
