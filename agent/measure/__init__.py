"""Compiling and timing: the toolchain, the worker, the runner, and the statistics of noise."""
