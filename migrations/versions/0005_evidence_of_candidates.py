"""What speaks for a candidate, view by view; and settings of sampling and selection that had no name.

A downgrade loses the findings and view scores of all candidates, and turns scores that are minus infinity into 0. Jobs
whose settings say what the old version has no name for keep these settings, and fail at a worker of that version;
`grid_tokens_only` and `when_too_long` are dropped from all, whatever they say.
"""

import json
from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# What the settings had no name for, as it was before.
ADDED_SETTINGS: Mapping[str, Mapping[str, object]] = {
    "sampling": {
        "grid_tokens_only": False,
        "when_too_long": "fail",
        "min_probability": 0.1,
        "max_nodes": 20_000,
        "time_budget_s": None,
    },
    "selection": {"num_scoring_views": 8, "num_scored": 16},
}
# A worker of the old kind does nothing wrong without these: it reads fewer grids, and fails what is too long.
DISPENSABLE = ("grid_tokens_only", "when_too_long")
TABLES_WITH_SETTINGS = ("batches", "jobs")


def upgrade() -> None:
    for column in ("findings", "view_scores"):
        op.add_column(
            "candidates",
            sa.Column(column, postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
        )
    op.alter_column("candidates", "score", existing_type=sa.Double(), nullable=True)
    # What is said already stays, as in a row that was downgraded.
    _rewrite_sections(lambda section, added: f"{added} || {section}")


def downgrade() -> None:
    _rewrite_sections(_without_what_the_old_version_does_anyway)
    # Scores are shares of votes there.
    op.execute("UPDATE candidates SET score = 0 WHERE score IS NULL")
    op.alter_column("candidates", "score", existing_type=sa.Double(), nullable=False)
    for column in ("view_scores", "findings"):
        op.drop_column("candidates", column)


def _without_what_the_old_version_does_anyway(section: str, added: str) -> str:
    dispensable = ", ".join(f"'{name}'" for name in DISPENSABLE)
    return (
        f"(SELECT coalesce(jsonb_object_agg(key, value), '{{}}') FROM jsonb_each({section})"  # noqa: S608
        f" WHERE key NOT IN ({dispensable}) AND NOT {added} @> jsonb_build_object(key, value))"
    )


def _rewrite_sections(rewritten: Callable[[str, str], str]) -> None:
    """Puts other values in place of both sections, every row being written once.

    `rewritten` makes a SQL expression of that of the section and that of its added settings.
    """
    sections, values = [], {}
    for name, added in ADDED_SETTINGS.items():
        expression = rewritten(f"coalesce(settings -> '{name}', '{{}}')", f"CAST(:{name} AS jsonb)")
        sections.append(f"'{name}', {expression}")
        values[name] = json.dumps(added)
    for table in TABLES_WITH_SETTINGS:
        update = (
            f"UPDATE {table} SET settings = settings || jsonb_build_object({', '.join(sections)})"  # noqa: S608
            " WHERE settings ? 'sampling'"
        )
        op.execute(sa.text(update).bindparams(**values))
