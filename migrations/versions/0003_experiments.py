"""Experiments: batches that are cells of a grid of settings."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "experiments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_sha256", sa.Text(), nullable=True),
        sa.Column("document", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("cells", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("seeds", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("num_tasks", sa.Integer(), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiments")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_experiments_idempotency_key")),
    )
    op.create_index("ix_experiments_listing", "experiments", ["created_at", "id"])
    op.add_column("batches", sa.Column("experiment_id", sa.Uuid(), nullable=True))
    op.add_column("batches", sa.Column("cell", sa.Text(), nullable=True))
    op.add_column("batches", sa.Column("seed", sa.Integer(), nullable=True))
    op.create_index(op.f("ix_batches_experiment_id"), "batches", ["experiment_id"])
    op.create_foreign_key(
        op.f("fk_batches_experiment_id_experiments"),
        "batches",
        "experiments",
        ["experiment_id"],
        ["id"],
        ondelete="CASCADE",
    )
    op.create_check_constraint(
        op.f("ck_batches_place_in_experiment"), "batches", "num_nulls(experiment_id, cell, seed) IN (0, 3)"
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_batches_place_in_experiment"), "batches")
    op.drop_constraint(op.f("fk_batches_experiment_id_experiments"), "batches")
    op.drop_index(op.f("ix_batches_experiment_id"), "batches")
    for column in ("seed", "cell", "experiment_id"):
        op.drop_column("batches", column)
    op.drop_table("experiments")
