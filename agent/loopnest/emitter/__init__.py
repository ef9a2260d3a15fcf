"""Program in, C out, whose compilation is predictable.

The door is ``emit.emit``.
"""
