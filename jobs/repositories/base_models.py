"""The registry of base models."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import and_, case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from jobs.claims import BaseModelSource
from jobs.errors import UnknownBaseModel
from jobs.models import BaseModelRow
from jobs.repositories.base import Repository, lease_until, now, storable

MAX_MERGE_ATTEMPTS: Final = 5
RETRY_AFTER_S: Final = 60.0


class MergeState(StrEnum):
    """Whether a base model's own adapter has been folded into it; one without an adapter is `merged` as it is."""

    NEEDS_MERGE = "needs_merge"
    MERGING = "merging"
    MERGED = "merged"
    FAILED = "failed"


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
        adapter_revision: str | None = None,
        adapter_config: Mapping[str, Any] | None = None,
        checked: bool = True,
    ) -> BaseModelRow:
        """Adds a base model, or says anew where the one of this name comes from.

        A worker has yet to merge one with an adapter, and to look at one that is not `checked`. Where the sources are
        those of before, what is known of the adapter stays until a worker has looked again: the files may be others.
        """
        ready = checked and adapter_source is None
        fields = {
            "source": source,
            "revision": revision,
            "adapter_source": adapter_source,
            "adapter_revision": adapter_revision,
            "adapter_config": None if adapter_config is None else dict(adapter_config),
            "manifest": None,
            "merge_state": (MergeState.MERGED if ready else MergeState.NEEDS_MERGE).value,
            "merge_attempts": 0,
            "look_again_at": None,
            "error": None,
        }
        statement = insert(BaseModelRow).values(name=name, **fields)
        row = BaseModelRow
        origin = ("source", "revision", "adapter_source", "adapter_revision")
        same = and_(*(getattr(row, name).is_not_distinct_from(fields[name]) for name in origin))
        known = {
            name: func.coalesce(statement.excluded[name], case((same, getattr(row, name))))
            for name in ("adapter_config", "manifest")
        }
        statement = statement.on_conflict_do_update(index_elements=["name"], set_={**fields, **known})
        return self._session.scalars(
            statement.returning(BaseModelRow), execution_options={"populate_existing": True}
        ).one()

    def waiting(self) -> Sequence[str]:
        """Names of base models that a worker should look at."""
        return self._session.scalars(select(BaseModelRow.name).where(_waiting()).order_by(BaseModelRow.name)).all()

    def begin_merge(self, name: str, *, lease_s: float) -> BaseModelSource | None:
        """Takes a base model that waits to be looked at, for so long; None if there is none of this name.

        One that `MAX_MERGE_ATTEMPTS` workers were lost over has failed.
        """
        row = self._session.scalar(select(BaseModelRow).where(BaseModelRow.name == name, _waiting()).with_for_update())
        if row is None:
            return None
        if row.merge_attempts >= MAX_MERGE_ATTEMPTS:
            row.merge_state, row.look_again_at = MergeState.FAILED.value, None
            row.error = row.error or f"{row.merge_attempts} workers were lost while they got it ready"
            return None
        row.merge_state = MergeState.MERGING.value
        row.merge_attempts += 1
        row.look_again_at = lease_until(lease_s)
        return BaseModelSource.of(row)

    def end_merge(
        self,
        name: str,
        base: BaseModelSource,
        *,
        adapter_config: Mapping[str, Any] | None,
        manifest: Mapping[str, Any] | None,
    ) -> None:
        """Records that the base model can be used, unless its name means another one by now."""
        self._note(
            name,
            base,
            merge_state=MergeState.MERGED.value,
            adapter_config=adapter_config,
            manifest=manifest,
            look_again_at=None,
            error=None,
        )

    def fail_merge(self, name: str, base: BaseModelSource, *, error: str, may_pass: bool = False) -> None:
        """Records why the base model cannot be used, unless another worker could, or its name means another one.

        What `may_pass` is tried again later, each time after twice as long, `MAX_MERGE_ATTEMPTS` times in all.
        """
        row = BaseModelRow
        if not may_pass:
            self._note(name, base, merge_state=MergeState.FAILED.value, look_again_at=None, error=storable(error))
            return
        is_last = row.merge_attempts >= MAX_MERGE_ATTEMPTS
        wait_s = RETRY_AFTER_S * func.power(2, func.greatest(row.merge_attempts - 1, 0))
        self._note(
            name,
            base,
            merge_state=case((is_last, MergeState.FAILED.value), else_=MergeState.NEEDS_MERGE.value),
            look_again_at=case((is_last, None), else_=lease_until(wait_s)),
            error=storable(error),
        )

    def _note(self, name: str, base: BaseModelSource, **fields: Any) -> None:  # noqa: ANN401 - column values
        # The same sources give the same merged model, so it does not matter whose merge this was.
        row = BaseModelRow
        self._session.execute(
            update(row)
            .where(
                row.name == name,
                row.merge_state != MergeState.MERGED.value,
                row.source == base.source,
                row.revision.is_not_distinct_from(base.revision),
                row.adapter_source.is_not_distinct_from(base.adapter_source),
                row.adapter_revision.is_not_distinct_from(base.adapter_revision),
            )
            .values(**fields)
            .execution_options(synchronize_session=False)
        )


def _waiting() -> Any:  # noqa: ANN401 - a SQL expression
    row = BaseModelRow
    is_open = row.merge_state.in_((MergeState.NEEDS_MERGE.value, MergeState.MERGING.value))
    return and_(is_open, or_(row.look_again_at.is_(None), row.look_again_at < now()))
