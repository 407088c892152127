"""`stop_loss` is not null any more where nobody says it; jobs that were stored before there was one keep null.

A downgrade has nothing to do: the version before knows `stop_loss`, and null is what it takes a missing one for.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES_WITH_SETTINGS = ("batches", "jobs")


def upgrade() -> None:
    for table in TABLES_WITH_SETTINGS:
        op.execute(
            f"UPDATE {table} SET settings ="  # noqa: S608
            """ jsonb_set(settings, '{adaptation}', '{"stop_loss": null}' || (settings -> 'adaptation'))"""
            " WHERE jsonb_typeof(settings -> 'adaptation') = 'object'"
        )


def downgrade() -> None:
    pass
