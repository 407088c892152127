"""Jobs that are answered by one call to the sampler, each of them under its own adapter."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from arc_engine.errors import EngineError
from arc_engine.scoring import score
from arc_engine.solving import Answer, Assignment, answer_all
from jobs.claims import ClaimedJob
from worker.holding import Held, note_interruption
from worker.preparing import base_folder
from worker.workshop import Workshop


@dataclass(frozen=True, slots=True)
class Seat:
    """A job's place in the pack: the job while it is held, and what the sampler is asked for it."""

    held: Held
    assignment: Assignment


def answered(seats: Sequence[Seat], *, workshop: Workshop) -> list[tuple[Seat, Answer, float]]:
    """The answers, each with its share of the call's seconds: a job that generated more tokens has the larger one.

    Jobs that could not be answered have been ended.
    """
    if not seats:
        return []
    pack, started = [seat.held for seat in seats], time.monotonic()
    try:
        found = _ask(seats, workshop=workshop)
    except Exception as error:  # noqa: BLE001 - whatever it is, the jobs' records are where it belongs
        note_interruption(pack)
        for held in pack:
            held.end(error)
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


def _ask(seats: Sequence[Seat], *, workshop: Workshop) -> list[Answer | EngineError]:
    first = seats[0].held.record  # what is asked of it here is the same for all of them
    reading = workshop.models.reading(base_folder(first, bases=workshop.bases))
    return answer_all(
        [seat.assignment for seat in seats],
        sampler=workshop.models.sampler(reading.folder, settings=first.job.settings.sampling),
        tokenizer=reading.tokenizer,
        base=reading.folder,
        max_positions=reading.max_positions,
    )
