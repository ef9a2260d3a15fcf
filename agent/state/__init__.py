"""What is remembered on this machine: one SQLite file, its lock and its owner.

The doors are ``state.open_state`` and ``state.read_state``.
"""
