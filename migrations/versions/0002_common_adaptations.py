"""Adapters that several jobs share, stages of training, and base models that a worker merges."""

import json
from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


# What the settings had no name for before, as it was and is unless somebody says otherwise.
ADDED_SETTINGS = {
    "start": "new",
    "warmup": {"steps": 100, "batch_size": 16},
    "scope": "per_task",
    "group_size": 5,
    "use_rslora": False,
    "lora_dropout": 0.0,
    "target_modules": "all-linear",
    "init": "default",
    "divergence_norm": 10_000.0,
    "stop_loss": None,
    "time_budget_s": None,
    "logging_steps": 1,
    "gradient_checkpointing": False,
    "precision": "auto",
    "examples,leave_one_out": "random",
    "examples,swap": 0.0,
    "examples": {},
}
TABLES_WITH_SETTINGS = ("batches", "jobs")


def upgrade() -> None:
    op.create_table(
        "common_adaptations",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("group_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("losses", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("artifact_key", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("config", _nullable_json(), nullable=True),
        sa.Column("steps", _nullable_json(), nullable=True),
        sa.Column("usage", _nullable_json(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'training', 'trained', 'failed')", name=op.f("ck_common_adaptations_state")
        ),
        sa.CheckConstraint(
            "(state = 'training') = (lease_owner IS NOT NULL AND lease_expires_at IS NOT NULL)",
            name=op.f("ck_common_adaptations_lease_while_training"),
        ),
        sa.CheckConstraint(
            "(state = 'trained') = (artifact_key IS NOT NULL)", name=op.f("ck_common_adaptations_adapter_when_trained")
        ),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batches.id"], name=op.f("fk_common_adaptations_batch_id_batches"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("batch_id", "group_index", name=op.f("pk_common_adaptations")),
    )
    op.add_column("jobs", sa.Column("group_index", sa.Integer(), nullable=True))
    op.add_column("training_steps", sa.Column("stage", sa.Text(), server_default="task", nullable=False))
    op.create_check_constraint(op.f("ck_training_steps_stage"), "training_steps", "stage IN ('common', 'task')")

    op.add_column("base_models", sa.Column("adapter_revision", sa.Text(), nullable=True))
    op.add_column("base_models", sa.Column("adapter_config", _nullable_json(), nullable=True))
    op.add_column("base_models", sa.Column("merge_attempts", sa.Integer(), server_default="0", nullable=False))
    op.add_column("base_models", sa.Column("look_again_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("base_models", sa.Column("error", sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f("ck_base_models_merge_state"),
        "base_models",
        "merge_state IN ('needs_merge', 'merging', 'merged', 'failed')",
    )

    for table in TABLES_WITH_SETTINGS:  # jobs that wait are parsed by the worker that takes them
        _move(table, "{adaptation,loss_on}", "{adaptation,examples}", under="loss_on")


def downgrade() -> None:
    # Settings that say something new stay: a worker of the old kind refuses such jobs instead of working them wrongly.
    for table in TABLES_WITH_SETTINGS:
        _move(table, "{adaptation,examples,loss_on}", "{adaptation,loss_on}")
        for name, value in ADDED_SETTINGS.items():
            _drop_where_equal(table, "settings", f"{{adaptation,{name}}}", value)
    for name in ("adapter_source", "adapter_revision"):
        _drop_where_equal("jobs", "versions", f"{{base_model,{name}}}", None)
    op.drop_constraint(op.f("ck_base_models_merge_state"), "base_models")
    for column in ("error", "look_again_at", "merge_attempts", "adapter_config", "adapter_revision"):
        op.drop_column("base_models", column)
    op.drop_column("training_steps", "stage")
    op.drop_column("jobs", "group_index")
    op.drop_table("common_adaptations")


def _move(table: str, old: str, new: str, *, under: str | None = None) -> None:
    """Takes what the settings have at path `old` to path `new`, there into an object under a name if one is given."""
    value = "settings #> CAST(:old AS text[])"
    moved = value if under is None else f"jsonb_build_object(CAST(:under AS text), {value})"
    statement = sa.text(
        f"UPDATE {table} SET settings = jsonb_set(settings #- CAST(:old AS text[]), CAST(:new AS text[]), {moved})"  # noqa: S608
        f" WHERE {value} IS NOT NULL"
    )
    names = {"old": old, "new": new} if under is None else {"old": old, "new": new, "under": under}
    op.execute(statement.bindparams(**names))


def _drop_where_equal(table: str, column: str, path: str, value: object) -> None:
    statement = sa.text(
        f"UPDATE {table} SET {column} = {column} #- CAST(:path AS text[])"  # noqa: S608
        f" WHERE {column} #> CAST(:path AS text[]) = CAST(:value AS jsonb)"
    )
    op.execute(statement.bindparams(path=path, value=json.dumps(value)))


def _nullable_json() -> postgresql.JSONB:
    return postgresql.JSONB(none_as_null=True, astext_type=sa.Text())
