"""C in, Program out, or ``file:line:column`` and why not.

The door is ``reader``.
"""
