"""Candidates: the distinct grids that the views' completions agree or disagree on."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from arc_engine.encoders import Refusal
from arc_engine.grids import Grid

IDENTITY_VIEW: Final = 0
"""Number of the view that shows the task as it is."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one completion says: a grid, its view already undone, or why there is none."""

    view: int
    outcome: Grid | Refusal
    log_probability: float


@dataclass(frozen=True, slots=True)
class Finding:
    """That a view found a grid: in how many completions, and the log-probability of the likeliest of them.

    None stands for a log-probability that is not finite.
    """

    view: int
    votes: int
    log_probability: float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A distinct grid, and what speaks for it.

    `findings` are in the order of their views. `view_scores` are its log-probabilities under the scoring views, where
    it was re-scored. `score` is what its selection method gave it; before selection, the share of all completions.
    """

    grid: Grid
    findings: tuple[Finding, ...]
    score: float
    view_scores: tuple[float, ...] = ()

    @property
    def votes(self) -> int:
        """How many completions gave it."""
        return sum(finding.votes for finding in self.findings)

    @property
    def views(self) -> tuple[int, ...]:
        """The numbers of the views that found it, ascending."""
        return tuple(finding.view for finding in self.findings)

    @property
    def log_probability(self) -> float | None:
        """Of the likeliest completion that gave it; None if none was finite."""
        found = [f.log_probability for f in self.findings if f.log_probability is not None]
        return max(found, default=None)


@dataclass(frozen=True, slots=True)
class Tally:
    """The candidates of one test input, most votes first, and how often a completion showed no grid.

    `completions_per_view` counts the completions of every view that was asked, whether they showed a grid or not.
    """

    candidates: tuple[Candidate, ...]
    refusals: Mapping[Refusal, int]
    completions_per_view: tuple[int, ...]

    @property
    def num_completions(self) -> int:
        """Of all views together."""
        return sum(self.completions_per_view)

    @property
    def num_views(self) -> int:
        """How many views were asked."""
        return len(self.completions_per_view)


def collect(readings: Iterable[Reading], *, num_views: int) -> Tally:
    """Merges equal grids. The order of the readings does not matter."""
    readings = list(readings)
    by_grid: dict[Grid, list[Reading]] = {}
    refusals: Counter[Refusal] = Counter()
    for reading in readings:
        if isinstance(reading.outcome, Refusal):
            refusals[reading.outcome] += 1
        else:
            by_grid.setdefault(reading.outcome, []).append(reading)
    found = (Candidate(grid, _findings(same), score=len(same) / len(readings)) for grid, same in by_grid.items())
    ordered = sorted(found, key=lambda candidate: (-candidate.votes, tie_break(candidate)))
    per_view = Counter(reading.view for reading in readings)
    completions_per_view = tuple(per_view[view] for view in range(num_views))
    return Tally(tuple(ordered), dict(sorted(refusals.items())), completions_per_view)


def tie_break(candidate: Candidate) -> tuple[float, float, bool, Grid]:
    """Sort key for candidates that a selection method finds equal, best first.

    More votes, the likelier completion, found by the identity view, then the grid itself: the last makes the order
    total, so that equal candidates do not depend on the order in which they came.
    """
    likelihood = -math.inf if candidate.log_probability is None else candidate.log_probability
    return -candidate.votes, -likelihood, IDENTITY_VIEW not in candidate.views, candidate.grid


def _findings(readings: list[Reading]) -> tuple[Finding, ...]:
    by_view: dict[int, list[float]] = {}
    for reading in readings:
        by_view.setdefault(reading.view, []).append(reading.log_probability)
    return tuple(
        Finding(view, len(found), max((value for value in found if math.isfinite(value)), default=None))
        for view, found in sorted(by_view.items())
    )
