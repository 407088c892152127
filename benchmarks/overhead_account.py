"""Where a worker's seconds went, by the records of the jobs that it did."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from api.schemas import JobDetail


def account(jobs: Sequence[JobDetail]) -> dict[str, Any]:
    """The seconds of one worker from when it took up the first of these jobs to the end of the last, per job.

    `compute_s` are forward and backward passes and updates, `sample_s` the calls that answer. `around_training_s` is
    the time in which any job is being adapted, without those passes: drawing and writing sequences, records of steps,
    the adapter's export and storage. `elsewhere_s` is the rest: claims, fetching adapters, storing answers, waiting for
    messages. Where training and answering go on at the same time it has less, even less than 0.
    """
    wall_s = max(_at(job.finished_at) for job in jobs) - min(_at(job.started_at) for job in jobs)
    adapting_s = sum(_covered((_at(job.started_at), _at(job.adapted_at)) for job in jobs))
    compute_s, sample_s = (sum(_used(job, name) for job in jobs) for name in ("compute_s", "sample_s"))
    totals = {
        "wall_s": wall_s,
        "compute_s": compute_s,
        "sample_s": sample_s,
        "around_training_s": adapting_s - compute_s,
        "elsewhere_s": wall_s - adapting_s - sample_s,
    }
    return {
        "per_job": {name: round(seconds / len(jobs), 4) for name, seconds in totals.items()},
        "jobs": [_seconds(job) for job in jobs],
    }


def startup(job: JobDetail) -> dict[str, Any]:
    """The first job of a worker: `rest_s` is all beside its passes and its answers' call."""
    seconds = _seconds(job)
    rest_s = seconds["adapting_s"] + seconds["answering_s"] - seconds["compute_s"] - seconds["sample_s"]
    return {**seconds, "rest_s": round(rest_s, 3)}


def _seconds(job: JobDetail) -> dict[str, Any]:
    """`answering_s` is from the end of its training to its answer, waiting for others included."""
    return {
        "task_id": job.task_id,
        "adapting_s": round(_at(job.adapted_at) - _at(job.started_at), 3),
        "answering_s": round(_at(job.finished_at) - _at(job.adapted_at), 3),
        "compute_s": _used(job, "compute_s"),
        "sample_s": _used(job, "sample_s"),
        "train_tokens": job.usage["train_tokens"],
        "sampled_tokens": job.usage["sampled_tokens"],
    }


def _covered(spans: Iterable[tuple[float, float]]) -> Iterator[float]:
    """Lengths of the pieces of time that the spans cover together."""
    covered_to = float("-inf")
    for begin, end in sorted(spans):
        yield max(0.0, end - max(begin, covered_to))
        covered_to = max(covered_to, end)


def _used(job: JobDetail, name: str) -> float:
    return float(str(job.usage[name]))


def _at(moment: datetime | None) -> float:
    if moment is None:
        raise ValueError("a job that succeeded lacks the time of one of its stages")
    return moment.timestamp()
