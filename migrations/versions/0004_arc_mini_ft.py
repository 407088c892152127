"""The second base model that comes with the package: arc-mini with a base adapter of its own."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

NAME = "arc-mini-ft"
BASE_MODELS = sa.table(
    "base_models",
    sa.column("name"),
    sa.column("source"),
    sa.column("adapter_source"),
    sa.column("adapter_config", postgresql.JSONB()),
    sa.column("merge_state"),
)


def upgrade() -> None:
    # Its shape, so that `start` continue can be asked for before a worker has read the adapter.
    layers = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    shape = {"r": 32, "lora_alpha": 64, "use_rslora": False, "target_modules": layers}
    row = {
        "name": NAME,
        "source": "bundled:arc-mini",
        "adapter_source": f"bundled:{NAME}",
        "adapter_config": shape,
        "merge_state": "needs_merge",
    }
    # Whoever has given the name to a model of their own keeps it.
    op.execute(postgresql.insert(BASE_MODELS).values(row).on_conflict_do_nothing(index_elements=["name"]))


def downgrade() -> None:
    ours = (BASE_MODELS.c.name == NAME) & (BASE_MODELS.c.adapter_source == f"bundled:{NAME}")
    op.execute(sa.delete(BASE_MODELS).where(ours))
