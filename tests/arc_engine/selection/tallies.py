"""Tallies to select from, drawn so that ties are common."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from hypothesis import strategies as st

from arc_engine.candidates import Candidate, Finding, Reading, Tally, collect
from arc_engine.encoders import Refusal
from arc_engine.grids import Grid
from arc_engine.views import View

NUM_VIEWS: Final = 6
VIEWS: Final = tuple(View(dihedral=number % 3) for number in range(NUM_VIEWS))
"""Two of each of three transformations."""
ONE_EACH: Final = (1,) * NUM_VIEWS
"""A completion per view."""
# The third is the lesser of the last two where likelihood and view say nothing.
GRIDS: Final = (((0,),), ((1,),), ((0, 0),), ((0,), (0,)), ((9, 9), (9, 9)))

readings = st.builds(
    Reading,
    view=st.integers(0, NUM_VIEWS - 1),
    outcome=st.sampled_from(GRIDS) | st.sampled_from(list(Refusal)),
    log_probability=st.sampled_from([-0.5, -1.0, -2.0, -math.inf, math.nan]),
)
many_readings = st.lists(readings, max_size=30)
view_scores = st.tuples(*[st.sampled_from([-0.25, -2.0, -8.0, -math.inf])] * 3)
scores_by_grid = st.fixed_dictionaries({grid: st.just(()) | view_scores for grid in GRIDS})
"""What the scoring views say of each grid: nothing where it is not scored again."""


def rescored(tally: Tally, scores: Mapping[Grid, tuple[float, ...]]) -> Tally:
    """The tally with view scores by grid."""
    return replace(tally, candidates=tuple(replace(c, view_scores=scores[c.grid]) for c in tally.candidates))


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    """Candidates found by some of the views, some of them scored again."""
    return rescored(collect(draw(many_readings), num_views=NUM_VIEWS), draw(scores_by_grid))


def candidate(grid: Grid, found: Mapping[int, float | None], *, view_scores: tuple[float, ...] = ()) -> Candidate:
    """Found once by each of the views, with these log-probabilities."""
    findings = tuple(Finding(view, 1, log_probability) for view, log_probability in sorted(found.items()))
    return Candidate(grid, findings, score=0.0, view_scores=view_scores)
