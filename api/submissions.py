"""A batch as Kaggle's `submission.json`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from api.schemas import SubmissionEntry
from jobs.repositories.batches import Answers

SubmissionDocument: TypeAlias = dict[str, list[SubmissionEntry]]

UNANSWERED: Final = [[0]]
"""Kaggle takes no file that lacks an answer; this grid stands where there is none."""


@dataclass(frozen=True, slots=True)
class KaggleSubmission:
    """The document, and the places (`<task id>/<test index>`) in it that hold no answer of ours."""

    document: SubmissionDocument
    unanswered: tuple[str, ...]


def kaggle_submission(jobs: Sequence[Answers]) -> KaggleSubmission:
    """Every task with two attempts per test input; a missing second attempt repeats the first."""
    document: SubmissionDocument = {}
    unanswered: list[str] = []
    for job in jobs:
        entries = []
        for index, answer in enumerate(job.test or [{}] * job.num_test_inputs):
            first = answer.get("attempt_1")
            second = answer.get("attempt_2")
            if first is None and second is None:
                unanswered.append(f"{job.task_id}/{index}")
            entries.append(
                SubmissionEntry(attempt_1=first or second or UNANSWERED, attempt_2=second or first or UNANSWERED)
            )
        document[job.task_id] = entries
    return KaggleSubmission(document, tuple(unanswered))
