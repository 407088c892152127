"""Jobs that can be worked on together are found by an index; a training step changes none; jobs are short to scan.

The table is written anew, under a lock that nobody reads past: seconds for thousands of jobs.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

WEIGHTS = """
    coalesce((settings -> 'base_model')::text, '') || ' ' || coalesce((versions -> 'base_model')::text, '') || ' ' ||
    (coalesce(settings #>> '{adaptation,start}', 'new') = 'continue')::text
"""
BACKEND = "coalesce(settings #>> '{sampling,backend}', 'auto')"
DEPTH_FIRST = "coalesce(settings #>> '{sampling,method}', '') = 'dfs'"
COLUMNS = {
    "trained_with": (
        "text",
        f"""CASE WHEN group_index IS NULL AND settings ->> 'adaptation' IS NOT NULL THEN md5(
            {WEIGHTS} || ' ' || coalesce(settings #>> '{{adaptation,precision}}', '') || ' ' ||
            coalesce(settings #>> '{{adaptation,gradient_checkpointing}}', '')
        ) ELSE NULL END""",
    ),
    "answered_with": ("text", f"md5({WEIGHTS} || ' ' || {BACKEND} || ' ' || ({DEPTH_FIRST})::text)"),
    "answered_by_engine": ("boolean", f"{BACKEND} = 'vllm' OR ({BACKEND} = 'auto' AND NOT ({DEPTH_FIRST}))"),
    "solved": (
        "boolean",
        """CASE WHEN results IS NOT NULL AND NOT jsonb_path_exists(solution, '$[*] ? (@ == null)')
        THEN NOT jsonb_path_exists(results, '$.test[*] ? (!(@.correct == true))') ELSE NULL END""",
    ),
}
"""Type and expression."""
INDEXED = ("trained_with", "answered_with", "answered_by_engine")


def upgrade() -> None:
    op.drop_index("ix_jobs_expiry", table_name="jobs")
    op.execute("ALTER TABLE jobs SET (toast_tuple_target = 512)")
    added = (f"ADD COLUMN {name} {kind} GENERATED ALWAYS AS ({sql}) STORED" for name, (kind, sql) in COLUMNS.items())
    op.execute(f"ALTER TABLE jobs {', '.join(added)}")
    for name in INDEXED:
        op.create_index(f"ix_jobs_{name}", "jobs", ["phase", name, "created_at", "position"])


def downgrade() -> None:
    for name in INDEXED:
        op.drop_index(f"ix_jobs_{name}", table_name="jobs")
    op.execute(f"ALTER TABLE jobs {', '.join(f'DROP COLUMN {name}' for name in COLUMNS)}")
    op.execute("ALTER TABLE jobs RESET (toast_tuple_target)")
    op.create_index(
        "ix_jobs_expiry", "jobs", ["lease_expires_at"], postgresql_where="phase IN ('adapting', 'sampling')"
    )
