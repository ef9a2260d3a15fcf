"""Alembic's way in: runs migrations on the connection that ``database.migrate`` holds."""

from alembic import context

from bundles.fleet.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
