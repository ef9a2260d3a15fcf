"""The commands, a module each group: parse, one call, show; each imports what it needs."""
