"""From a tally to two attempts, whichever method judges the candidates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from arc_engine.candidates import Candidate, Tally, tie_break
from arc_engine.grids import Grid
from arc_engine.selection.confidence import confidences
from arc_engine.selection.hierarchical_vote import hierarchical_votes
from arc_engine.selection.rescoring import probmul, product_of_experts, view_count_logprob
from arc_engine.selection.vote import vote_shares
from arc_engine.settings import SelectionMethod
from arc_engine.views import View

Judge: TypeAlias = Callable[[Tally, Sequence[View]], list[tuple[float, ...]]]
"""How good each candidate of the tally is, more being better; the first number is its score, the others break ties."""

_JUDGES: Final[dict[SelectionMethod, Judge]] = {
    "vote": vote_shares,
    "hierarchical_vote": hierarchical_votes,
    "product_of_experts": product_of_experts,
    "probmul": probmul,
    "view_count_logprob": view_count_logprob,
}


@dataclass(frozen=True, slots=True)
class Attempts:
    """The two answers to one test input.

    `attempt_2` is None when there was one candidate only, both are None when there was none. `confidences` are the
    estimated probabilities that each is right; an attempt that is None has 0.
    """

    attempt_1: Grid | None
    attempt_2: Grid | None
    confidences: tuple[float, float]

    @property
    def confidence(self) -> float:
        """The estimated probability that either is right: they differ, so one at most is."""
        return sum(self.confidences)


@dataclass(frozen=True, slots=True)
class Selection:
    """The candidates of one test input as the method ranks them, best first, and the two attempts.

    `completions_per_view` counts what the views were asked for and gave, as in the tally.
    """

    candidates: tuple[Candidate, ...]
    attempts: Attempts
    completions_per_view: tuple[int, ...]


def select(tally: Tally, *, method: SelectionMethod, views: Sequence[View]) -> Selection:
    """Ranks the candidates; `views` are those under which they were found.

    Methods that re-score put candidates that were not scored below those that were. Equal candidates are ordered by
    `tie_break`, whatever the method.
    """
    judged = zip(tally.candidates, _JUDGES[method](tally, views), strict=True)
    ordered = sorted(judged, key=lambda pair: (tuple(-number for number in pair[1]), tie_break(pair[0])))
    ranked = tuple(replace(candidate, score=goodness[0]) for candidate, goodness in ordered)
    first, second = (ranked[place].grid if place < len(ranked) else None for place in range(2))
    sure = confidences(ranked, completions_per_view=tally.completions_per_view, method=method)
    return Selection(ranked, Attempts(first, second, sure), tally.completions_per_view)
