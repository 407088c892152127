"""What speaks for a candidate, view by view; and settings of sampling and selection that had no name."""

import json
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# What the settings had no name for, as it was before.
ADDED_SETTINGS = {
    "{sampling,grid_tokens_only}": False,
    "{sampling,when_too_long}": "fail",
    "{sampling,min_probability}": 0.1,
    "{sampling,max_nodes}": 20_000,
    "{sampling,time_budget_s}": None,
    "{selection,num_scoring_views}": 8,
    "{selection,num_scored}": 16,
}
TABLES_WITH_SETTINGS = ("batches", "jobs")


def upgrade() -> None:
    for column in ("findings", "view_scores"):
        op.add_column(
            "candidates",
            sa.Column(column, postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        )
    op.alter_column("candidates", "score", existing_type=sa.Double(), nullable=True)
    for table in TABLES_WITH_SETTINGS:
        for path, value in ADDED_SETTINGS.items():
            _add(table, path, value)


def downgrade() -> None:
    for table in TABLES_WITH_SETTINGS:
        for path, value in ADDED_SETTINGS.items():
            _drop_where_equal(table, path, value)
        # Settings that say something new stay: a worker of the old kind refuses such jobs instead of working them
        # wrongly. But without these two it does nothing wrong: it reads fewer grids, and fails what is too long.
        _drop_where_equal(table, "{sampling,grid_tokens_only}", True)  # noqa: FBT003 - the setting's value
        _drop_where_equal(table, "{sampling,when_too_long}", "drop_pairs")
    # Scores are shares of votes there.
    op.execute("UPDATE candidates SET score = 0 WHERE score IS NULL")
    op.alter_column("candidates", "score", existing_type=sa.Double(), nullable=False)
    for column in ("view_scores", "findings"):
        op.drop_column("candidates", column)


def _add(table: str, path: str, value: object) -> None:
    """Says `value` wherever the settings have the section of this path, but say nothing at it."""
    statement = sa.text(
        f"UPDATE {table} SET settings = jsonb_set(settings, CAST(:path AS text[]), CAST(:value AS jsonb))"  # noqa: S608
        " WHERE settings #> CAST(:path AS text[]) IS NULL"
    )
    op.execute(statement.bindparams(path=path, value=json.dumps(value)))


def _drop_where_equal(table: str, path: str, value: object) -> None:
    statement = sa.text(
        f"UPDATE {table} SET settings = settings #- CAST(:path AS text[])"  # noqa: S608
        " WHERE settings #> CAST(:path AS text[]) = CAST(:value AS jsonb)"
    )
    op.execute(statement.bindparams(path=path, value=json.dumps(value)))
