"""The public Tiramisu timings as a file of labels: ``python -m tools.tiramisu PUBLIC OUT``."""
