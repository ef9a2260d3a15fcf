"""Bundles signed and offered: a repository of The Update Framework, and its commands."""
