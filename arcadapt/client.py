"""The Python client: the routes of the service as methods, with typed answers.

The answers are the API's own models (`api.schemas`, `api.answer_schemas`), so that there is one description of every
document.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
from pydantic import TypeAdapter, ValidationError

from api.answer_schemas import Candidates
from api.schemas import (
    BaseModelDetail,
    BaseModels,
    BatchDetail,
    JobDetail,
    JobPage,
    JobSummary,
    Losses,
    Readiness,
    SolveResponse,
    StepModel,
    SubmissionEntry,
)
from arc_engine.settings import SolveSettings
from arcadapt.connection import refusal, unexpected
from arcadapt.experiment_calls import ExperimentCalls
from arcadapt.polling import poll
from jobs.states import FINISHED

TaskJson = Mapping[str, Any]
JobId = UUID | str

_SUBMISSION: Final = TypeAdapter(dict[str, list[SubmissionEntry]])


class Client(ExperimentCalls):
    """Talks to one arcadapt server.

    Every method raises `ApiError` when the server refuses, `ServerUnreachable` when nothing answers, and
    `UnexpectedAnswer` when what answers is not an arcadapt server. `transport` is httpx's, for callers with needs of
    their own.
    """

    def solve(
        self,
        tasks: TaskJson | Mapping[str, TaskJson],
        *,
        settings: SolveSettings | Mapping[str, Any] | None = None,
        name: str | None = None,
        task_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> SolveResponse:
        """Submits one task (ARC's own JSON: `train` and `test`) or many (`{id: task}`).

        Test outputs in the tasks are used for scoring only. Of `SolveSettings` only what was said is sent; the server
        fills in the rest, with a base adapter's own shape where that is trained further. With an `idempotency_key` a
        repeated call gives the first one's batch.
        """
        body: dict[str, Any] = {}
        if {"train", "test"} <= tasks.keys():
            body["task"] = tasks
            if task_id is not None:
                body["task_id"] = task_id
        else:
            body["tasks"] = tasks
        if settings is not None:
            body["settings"] = (
                settings.model_dump(mode="json", exclude_unset=True)
                if isinstance(settings, SolveSettings)
                else dict(settings)
            )
        if name is not None:
            body["name"] = name
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._fetch(SolveResponse, "POST", "/solve", json=body, headers=headers)

    def job(self, job_id: JobId) -> JobDetail:
        """Everything about one job but its losses and candidates."""
        return self._fetch(JobDetail, "GET", f"/jobs/{job_id}")

    def jobs(
        self, *, status: str | None = None, batch_id: JobId | None = None, task_id: str | None = None, limit: int = 100
    ) -> Iterator[JobSummary]:
        """All jobs that match, newest first; further pages, of `limit` jobs, are fetched as they are reached."""
        wanted = {"status": status, "batch_id": batch_id and str(batch_id), "task_id": task_id, "limit": limit}
        query: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
        while True:
            page = self._fetch(JobPage, "GET", "/jobs", params=query)
            yield from page.items
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor

    def losses(self, job_id: JobId, *, after: int = 0) -> list[StepModel]:
        """The recorded steps after step `after`."""
        steps: list[StepModel] = []
        while True:
            page = self._fetch(Losses, "GET", f"/jobs/{job_id}/losses", params={"after": after})
            fresh = [step for step in page.items if step.step > after]
            steps += fresh
            if not fresh or page.last_step == after:
                return steps
            after = fresh[-1].step

    def losses_csv(self, job_id: JobId) -> str:
        """All recorded steps as CSV text with a header line."""
        return self._request("GET", f"/jobs/{job_id}/losses", params={"format": "csv"}).text

    def candidates(self, job_id: JobId) -> Candidates:
        """All distinct grids that sampling found, per test input."""
        return self._fetch(Candidates, "GET", f"/jobs/{job_id}/candidates")

    def adapter(self, job_id: JobId, path: Path | str) -> Path:
        """Downloads the adapter's zip to `path`, in one step: a broken download leaves nothing there."""
        target = Path(path)
        partial = target.with_name(f"{target.name}.part")
        try:
            with self._http.stream("GET", f"/jobs/{job_id}/adapter") as answer:
                if not answer.is_success:
                    answer.read()
                    raise refusal(answer)
                with partial.open("wb") as file:
                    file.writelines(answer.iter_bytes())
            partial.replace(target)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        finally:
            partial.unlink(missing_ok=True)
        return target

    def cancel(self, job_id: JobId) -> JobDetail:
        """Asks the job to stop: at once if no worker has it, else within one step.

        Harmless when repeated; an `ApiError` with code `invalid_transition` for a job that succeeded or failed.
        """
        return self._fetch(JobDetail, "POST", f"/jobs/{job_id}/cancel")

    def batch(self, batch_id: JobId) -> BatchDetail:
        """A batch: counts by status, scores where test outputs were sent, and its jobs."""
        return self._fetch(BatchDetail, "GET", f"/batches/{batch_id}")

    def submission(self, batch_id: JobId, *, partial: bool = False) -> dict[str, list[SubmissionEntry]]:
        """The batch's answers in the form of Kaggle's `submission.json`.

        An `ApiError` with code `batch_unfinished` while jobs are unfinished, unless `partial`.
        """
        answer = self._request("GET", f"/batches/{batch_id}/submission", params={"partial": partial})
        try:
            return _SUBMISSION.validate_json(answer.content)
        except ValidationError as error:
            raise unexpected(answer, error) from error

    def base_models(self) -> list[BaseModelDetail]:
        """The base models that jobs may name."""
        return self._fetch(BaseModels, "GET", "/base-models").items

    def base_model(self, name: str) -> BaseModelDetail:
        """One base model, and whether a worker has got it ready."""
        return self._fetch(BaseModelDetail, "GET", f"/base-models/{name}")

    def register_base_model(
        self,
        name: str,
        source: str,
        *,
        revision: str | None = None,
        adapter: str | None = None,
        adapter_revision: str | None = None,
    ) -> BaseModelDetail:
        """Registers a base model: `bundled:NAME`, `local:NAME` or a hub id, like its adapter if it has one."""
        document = {
            "name": name,
            "source": source,
            "revision": revision,
            "adapter": adapter,
            "adapter_revision": adapter_revision,
        }
        return self._fetch(BaseModelDetail, "POST", "/base-models", json=document)

    def ready(self) -> Readiness:
        """The state of what the service stands on; an `ApiError` with code `not_ready` while something is missing."""
        return self._fetch(Readiness, "GET", "/readyz")

    def wait(
        self,
        job_ids: Iterable[JobId],
        *,
        timeout_s: float | None = None,
        poll_s: float = 0.5,
        observe: Callable[[JobDetail], None] = lambda _: None,
    ) -> list[JobDetail]:
        """Waits until every job is finished and returns them in the order given.

        `observe` gets each unfinished job as often as it is looked at, and once more when it is finished. Raises
        `WaitTimedOut` after `timeout_s`. A server that goes away for a moment (a restart) is waited for.
        """
        jobs: dict[str, JobDetail | None] = dict.fromkeys(str(job_id) for job_id in job_ids)

        def look() -> bool:
            for job_id in [job_id for job_id, job in jobs.items() if job is None]:
                job = self.job(job_id)
                observe(job)
                if job.status in FINISHED:
                    jobs[job_id] = job
            return None not in jobs.values()

        poll(look, every_s=poll_s, timeout_s=timeout_s)
        return [job for job in jobs.values() if job is not None]

    def wait_for_batch(
        self,
        batch_id: JobId,
        *,
        timeout_s: float | None = None,
        poll_s: float = 0.5,
        observe: Callable[[BatchDetail], None] = lambda _: None,
    ) -> BatchDetail:
        """Waits until every job of the batch is finished; one request per look, however many jobs there are."""
        looks: list[BatchDetail] = []

        def look() -> bool:
            looks[:] = [self.batch(batch_id)]
            observe(looks[0])
            return looks[0].finished

        poll(look, every_s=poll_s, timeout_s=timeout_s)
        return looks[0]
