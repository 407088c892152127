"""The registry of base models."""

from datetime import datetime

from sqlalchemy import CheckConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from jobs.models.base import NULLABLE_JSON, Base, JsonObject


class BaseModelRow(Base):
    """A base model that jobs may name, and whether its own adapter has been merged into it.

    A worker looks at one that is not, `look_again_at` being over where it is set: after a failure that may pass, or
    because the worker that was at it must be lost. `merge_attempts` counts how often one did.
    """

    __tablename__ = "base_models"
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy declares it
    __table_args__ = (
        CheckConstraint("merge_state IN ('needs_merge', 'merging', 'merged', 'failed')", name="merge_state"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]
    revision: Mapped[str | None]
    adapter_source: Mapped[str | None]
    adapter_revision: Mapped[str | None]
    adapter_config: Mapped[JsonObject | None] = mapped_column(NULLABLE_JSON)
    manifest: Mapped[JsonObject | None] = mapped_column(NULLABLE_JSON)
    merge_state: Mapped[str]
    merge_attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    look_again_at: Mapped[datetime | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
