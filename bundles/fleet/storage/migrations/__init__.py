"""Alembic's scripts; ``database.migrate`` runs them."""
