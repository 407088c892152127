"""The routes of experiments as methods of the client."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal
from uuid import UUID

from api.experiment_schemas import ExperimentCurves, ExperimentDetail, ExperimentReport, Experiments, ExperimentSummary
from arcadapt.connection import Connection

ExperimentId = UUID | str

_EXPERIMENT_S: Final = 300.0
"""Patience with what the server does for an experiment as a whole, which can have thousands of jobs."""


class ExperimentCalls(Connection):
    """What a client can do with experiments."""

    def create_experiment(self, document: Mapping[str, Any], *, idempotency_key: str | None = None) -> ExperimentDetail:
        """Submits an experiment: `name`, `tasks`, and as wanted `settings`, `cells` or `grid`, `seeds`."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._fetch(
            ExperimentDetail, "POST", "/experiments", json=dict(document), headers=headers, timeout_s=_EXPERIMENT_S
        )

    def experiment(self, experiment_id: ExperimentId) -> ExperimentDetail:
        """An experiment: its cells, and how far each of them is."""
        return self._fetch(ExperimentDetail, "GET", f"/experiments/{experiment_id}")

    def experiments(self, *, limit: int = 100) -> Iterator[ExperimentSummary]:
        """All experiments, newest first; further pages, of `limit` experiments, are fetched as they are reached."""
        query: dict[str, Any] = {"limit": limit}
        while True:
            page = self._fetch(Experiments, "GET", "/experiments", params=query)
            yield from page.items
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor

    def experiment_report(self, experiment_id: ExperimentId) -> ExperimentReport:
        """The table as it stands now."""
        return self._fetch(ExperimentReport, "GET", f"/experiments/{experiment_id}/report", timeout_s=_EXPERIMENT_S)

    def experiment_table(self, experiment_id: ExperimentId, *, form: Literal["csv", "markdown"]) -> str:
        """The table as text."""
        path = f"/experiments/{experiment_id}/report"
        return self._request("GET", path, params={"format": form}, timeout_s=_EXPERIMENT_S).text

    def experiment_jobs_table(self, experiment_id: ExperimentId) -> str:
        """Every job with its scores, as CSV."""
        path = f"/experiments/{experiment_id}/jobs"
        return self._request("GET", path, params={"format": "csv"}, timeout_s=_EXPERIMENT_S).text

    def experiment_curves(self, experiment_id: ExperimentId) -> ExperimentCurves:
        """Mean loss by step of every cell."""
        return self._fetch(ExperimentCurves, "GET", f"/experiments/{experiment_id}/curves", timeout_s=_EXPERIMENT_S)

    def cancel_experiment(self, experiment_id: ExperimentId) -> ExperimentDetail:
        """Cancels every job that is not finished."""
        return self._fetch(ExperimentDetail, "POST", f"/experiments/{experiment_id}/cancel", timeout_s=_EXPERIMENT_S)

    def resume_experiment(
        self, experiment_id: ExperimentId, *, failed: Literal["lost", "all"] = "lost"
    ) -> ExperimentDetail:
        """Puts fresh jobs into the places of those that were cancelled or lost their workers, or of all that failed."""
        path = f"/experiments/{experiment_id}/resume"
        return self._fetch(ExperimentDetail, "POST", path, params={"failed": failed}, timeout_s=_EXPERIMENT_S)
