"""Alembic's entry: runs the revisions over the connection that `jobs.migrating` opened."""

from alembic import context

from jobs.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_server_default=True,
)
context.run_migrations()
