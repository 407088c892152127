"""The registry of base models."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from jobs.errors import UnknownBaseModel
from jobs.models import BaseModelRow
from jobs.repositories.base import Repository


class MergeState(StrEnum):
    """Whether a base model can be loaded as it is."""

    MERGED = "merged"
    NEEDS_MERGE = "needs_merge"


class BaseModelRepository(Repository):
    """Base models that jobs may name."""

    def get(self, name: str) -> BaseModelRow:
        """The base model; raises `UnknownBaseModel`."""
        row = self._session.get(BaseModelRow, name)
        if row is None:
            raise UnknownBaseModel(name)
        return row

    def list(self) -> Sequence[BaseModelRow]:
        """All base models by name."""
        return self._session.scalars(select(BaseModelRow).order_by(BaseModelRow.name)).all()

    def register(
        self,
        name: str,
        source: str,
        *,
        revision: str | None = None,
        adapter_source: str | None = None,
        manifest: Mapping[str, Any] | None = None,
        merge_state: MergeState = MergeState.MERGED,
    ) -> BaseModelRow:
        """Adds a base model, or says anew where the one of this name comes from."""
        fields = {
            "source": source,
            "revision": revision,
            "adapter_source": adapter_source,
            "manifest": None if manifest is None else dict(manifest),
            "merge_state": merge_state.value,
        }
        statement = insert(BaseModelRow).values(name=name, **fields)
        statement = statement.on_conflict_do_update(index_elements=["name"], set_=fields)
        return self._session.scalars(
            statement.returning(BaseModelRow), execution_options={"populate_existing": True}
        ).one()
