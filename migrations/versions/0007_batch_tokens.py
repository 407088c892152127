"""Adaptation has a bound on the tokens of a step, `batch_tokens`; jobs that were stored before have none.

A downgrade drops it where it bounds nothing; jobs with a bound keep it, and fail at a worker of the old version.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES_WITH_SETTINGS = ("batches", "jobs")


def upgrade() -> None:
    for table in TABLES_WITH_SETTINGS:
        op.execute(
            f"UPDATE {table} SET settings ="  # noqa: S608
            """ jsonb_set(settings, '{adaptation}', '{"batch_tokens": null}' || (settings -> 'adaptation'))"""
            " WHERE jsonb_typeof(settings -> 'adaptation') = 'object'"
        )


def downgrade() -> None:
    for table in TABLES_WITH_SETTINGS:
        op.execute(
            f"UPDATE {table} SET settings = settings #- '{{adaptation,batch_tokens}}'"  # noqa: S608
            " WHERE settings #> '{adaptation,batch_tokens}' = 'null'"
        )
