"""Scoring attempts against the true outputs, where the client sent them."""

from collections.abc import Sequence

from arc_engine.selection import Attempts
from arc_engine.tasks import Solution


def score(attempts: Sequence[Attempts], solution: Solution) -> tuple[bool | None, ...]:
    """Per test input whether either attempt is exactly right; None where the true output is unknown."""
    return tuple(
        None if output is None else output in (answer.attempt_1, answer.attempt_2)
        for answer, output in zip(attempts, solution.outputs, strict=True)
    )
