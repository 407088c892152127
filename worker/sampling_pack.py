"""Jobs that are answered by one call to the sampler, each of them under its own adapter."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from arc_engine.errors import EngineError, SamplerFailed
from arc_engine.sampling.protocol import Sampled, Sampler, SampleRequest, Scored, ScoreRequest
from arc_engine.scoring import score
from arc_engine.solving import Answer, Assignment, answer_all
from jobs.claims import ClaimedJob
from worker.holding import Held, note_interruption
from worker.lease import URGENT
from worker.preparing import base_folder
from worker.workshop import Workshop

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Seat:
    """A job's place in the pack: the job while it is held, and what the sampler is asked for it."""

    held: Held
    assignment: Assignment


def answered(seats: Sequence[Seat], *, workshop: Workshop) -> list[tuple[Seat, Answer, float]]:
    """The answers, each with its share of the call's seconds: a job that generated more tokens has the larger one.

    Jobs that could not be answered, or are not to be any more, have been ended.
    """
    return _answered(seats, pack=[seat.held for seat in seats], workshop=workshop)


def _answered(seats: Sequence[Seat], *, pack: Sequence[Held], workshop: Workshop) -> list[tuple[Seat, Answer, float]]:
    seats = [seat for seat in seats if seat.held.may_go_on()]
    if not seats:
        return []
    started = time.monotonic()
    try:
        found = _ask(seats, pack=pack, workshop=workshop)
    except Exception as error:
        note_interruption(pack)
        if len(seats) > 1 and not isinstance(error, EngineError) and not _is_urgent(pack):
            log.warning("a fault that may be one job's; each is asked about alone", exc_info=error)
            return [found for seat in seats for found in _answered([seat], pack=pack, workshop=workshop)]
        for seat in seats:
            seat.held.end(error)
        return []
    seconds = time.monotonic() - started
    note_interruption(pack)
    answers: list[tuple[Seat, Answer]] = []
    for seat, outcome in zip(seats, found, strict=True):
        if isinstance(outcome, EngineError):
            seat.held.end(outcome)
        else:
            answers.append((seat, outcome))
    seconds_per_token = seconds / sum(1 + answer.num_tokens for _, answer in answers) if answers else 0.0
    return [(seat, answer, round((1 + answer.num_tokens) * seconds_per_token, 3)) for seat, answer in answers]


def results_of(found: Answer, job: ClaimedJob) -> dict[str, Any]:
    """The job's results: per test input two attempts, and whether they are right where that is known."""
    return {
        "test": [
            {
                "attempt_1": attempts.attempt_1,
                "attempt_2": attempts.attempt_2,
                "confidence": attempts.confidence,
                "confidences": list(attempts.confidences),
                "num_completions": num_completions,
                "correct": correct,
            }
            for attempts, num_completions, correct in zip(
                found.attempts, found.num_completions, score(found.attempts, job.solution), strict=True
            )
        ]
    }


def usage_of(found: Answer) -> dict[str, Any]:
    """What was done for the answer, over all test inputs."""
    return {
        "sampled_tokens": found.num_tokens,
        "num_completions": sum(found.num_completions),
        "refusals": dict(found.refusals),
        "cut_searches": found.num_cut,
        "scored_answers": found.num_scored,
        "dropped_pairs": found.num_dropped_pairs,
    }


class _Interruptible:
    """The pack's sampler. An interrupt ends the call that is under way, so none is begun after it either."""

    def __init__(self, sampler: Sampler, pack: Sequence[Held]) -> None:
        self._sampler = sampler
        self._pack = pack

    def start(self, *, lora_rank: int = 0) -> None:
        self._sampler.start(lora_rank=lora_rank)

    def max_positions(self, *, base: Path, lora_rank: int = 0) -> int | None:
        self._check()
        return self._sampler.max_positions(base=base, lora_rank=lora_rank)

    def sample(self, requests: Sequence[SampleRequest], *, base: Path) -> list[Sampled]:
        self._check()
        return self._sampler.sample(requests, base=base)

    def score(self, requests: Sequence[ScoreRequest], *, base: Path) -> list[Scored]:
        self._check()
        return self._sampler.score(requests, base=base)

    def close(self) -> None:
        self._sampler.close()

    def _check(self) -> None:
        if _is_urgent(self._pack):
            raise SamplerFailed("the worker is letting go of the jobs")


def _is_urgent(pack: Sequence[Held]) -> bool:
    """Whether a job that is still held cannot wait for the end of a call."""
    return any(held.lease.check() in URGENT for held in pack if not held.is_over)


def _ask(seats: Sequence[Seat], *, pack: Sequence[Held], workshop: Workshop) -> list[Answer | EngineError]:
    first = seats[0].held.record  # what is asked of it here is the same for all of them
    reading = workshop.models.reading(base_folder(first, bases=workshop.bases))
    with workshop.models.sampling(reading.folder, settings=first.job.settings.sampling) as sampler:
        return answer_all(
            [seat.assignment for seat in seats],
            sampler=_Interruptible(sampler, pack),
            tokenizer=reading.tokenizer,
            base=reading.folder,
            max_positions=reading.max_positions,
        )
