"""Random programs that no compiler can delete."""
