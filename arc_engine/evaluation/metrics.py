"""What the field counts when it compares predictions with the truth.

Everything is measured per test input and then averaged, first over a task's test inputs, then over tasks. A prediction
that is absent (an answer that cannot be read, a job that failed) counts as wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from operator import eq
from statistics import fmean
from typing import Final

from arc_engine.grids import Grid, shape


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was predicted for one test input.

    `votes` counts the predictions that gave each distinct grid, best-ranked first; `num_predictions` counts all that
    were made, those that gave no grid too. A depth-first search makes as many as it finds.
    """

    votes: Mapping[Grid, int]
    num_predictions: int
    attempts: tuple[Grid | None, Grid | None]

    def __post_init__(self) -> None:
        if sum(self.votes.values()) > self.num_predictions:
            raise ValueError(f"{sum(self.votes.values())} votes of {self.num_predictions} predictions")


@dataclass(frozen=True, slots=True)
class Metrics:
    """Shares between 0 and 1; of `unanswered` less is better.

    `accuracy`, `correct_size`, `correct_pixels` and `unanswered` are shares of the predictions: exactly right, of the
    right size, of the pixels right (none where the size is wrong), no grid at all. `pass_n`: any prediction is right.
    `vote_1`, `vote_2`: the truth is the grid with the most votes, or among the two. `pass_at_2`: either attempt is
    right, the benchmark's own score.
    """

    accuracy: float
    pass_n: float
    vote_1: float
    vote_2: float
    pass_at_2: float
    correct_size: float
    correct_pixels: float
    unanswered: float


METRICS: Final = tuple(field.name for field in fields(Metrics))
_SHORT: Final = {"pass_at_2": "pass@2", "correct_size": "size", "correct_pixels": "pixels"}
TITLES: Final = {name: _SHORT.get(name, name) for name in METRICS}
"""What stands above their columns where people read them."""

NO_ANSWER: Final = Metrics(
    accuracy=0, pass_n=0, vote_1=0, vote_2=0, pass_at_2=0, correct_size=0, correct_pixels=0, unanswered=1
)
"""The metrics of a test input for which nothing was predicted."""


def measure(predictions: Predictions | None, truth: Grid) -> Metrics:
    """The metrics of one test input; None, or not one prediction, is no answer at all (a failed job)."""
    if predictions is None or not predictions.num_predictions:
        return NO_ANSWER
    votes, total = predictions.votes, predictions.num_predictions
    ranked = sorted(votes, key=lambda grid: -votes[grid])  # stable: equal votes stay as they were ranked
    return Metrics(
        accuracy=votes.get(truth, 0) / total,
        pass_n=float(truth in votes),
        vote_1=float(truth in ranked[:1]),
        vote_2=float(truth in ranked[:2]),
        pass_at_2=float(truth in predictions.attempts),
        correct_size=sum(count for grid, count in votes.items() if shape(grid) == shape(truth)) / total,
        correct_pixels=sum(count * share_of_pixels(grid, truth) for grid, count in votes.items()) / total,
        unanswered=1 - sum(votes.values()) / total,
    )


def share_of_pixels(grid: Grid, truth: Grid) -> float:
    """Share of the truth's cells that the grid has right; 0 where the sizes differ."""
    if shape(grid) != shape(truth):
        return 0.0
    # Without arrays: making them takes longer than comparing the cells of a grid.
    num_right: int = sum(map(eq, chain.from_iterable(grid), chain.from_iterable(truth)))
    return num_right / (len(truth) * len(truth[0]))


def mean(metrics: Sequence[Metrics]) -> Metrics:
    """The mean of every metric: over the test inputs of a task, then over tasks. Raises `ValueError` for none."""
    return Metrics(**{name: fmean(getattr(one, name) for one in metrics) for name in METRICS})
