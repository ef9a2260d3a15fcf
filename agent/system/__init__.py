"""What the operating system is asked for and may refuse: processes, owners, signals.

Doors: ``child.run_child``, ``private``, ``refused``, ``stop``, ``tasks``.
"""
