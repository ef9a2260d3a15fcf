"""From the typed tree of C to the Program: one rule for each form of C that is read.

The door is ``reader``.
"""
