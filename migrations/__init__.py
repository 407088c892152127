"""Alembic's revisions of the tables in `jobs.models`; installed with the package, run by `jobs.migrating`."""
