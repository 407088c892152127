"""The two methods that count, worked out by hand."""

import pytest

from arc_engine.candidates import Reading, collect
from arc_engine.encoders import Refusal
from arc_engine.grids import Grid
from arc_engine.selection import select
from arc_engine.settings import SelectionMethod
from arc_engine.views import View

pytestmark = pytest.mark.fast

A, B, C, D, E = (((colour,),) for colour in range(5))
VIEWS = tuple(View(dihedral=dihedral) for dihedral in (0, 0, 0, 0, 4, 4, 7))


def scores(readings: list[Reading], method: SelectionMethod) -> dict[Grid, float]:
    selection = select(collect(readings, num_views=len(VIEWS)), method=method, views=VIEWS)
    return {candidate.grid: candidate.score for candidate in selection.candidates}


TURNED_AND_NOT = [
    # The identity transformation, views 0 to 3: A three times, B and C twice each, D once.
    *(Reading(0, A, -1.0), Reading(1, A, -1.0), Reading(2, A, -1.0)),
    *(Reading(0, B, -1.0), Reading(3, B, -1.0)),
    *(Reading(1, C, -1.0), Reading(2, C, -1.0), Reading(2, D, -2.0)),
    # Transposed: B and D. Turned and transposed: D, E, and an answer that is no grid.
    *(Reading(4, B, -1.0), Reading(5, D, -2.0)),
    *(Reading(6, D, -2.0), Reading(6, E, -3.0), Reading(6, Refusal.RAGGED, -1.0)),
]


def test_votes_are_shares_of_all_completions() -> None:
    found = scores(TURNED_AND_NOT, "vote")
    assert found == {A: 3 / 13, B: 3 / 13, D: 3 / 13, C: 2 / 13, E: 1 / 13}
    assert list(found) == [A, B, D, C, E]  # of equal ones the likelier, by the identity view, the lesser


def test_hierarchical_votes_are_of_transformations() -> None:
    found = scores(TURNED_AND_NOT, "hierarchical_vote")
    # D is the identity's fourth, so two transformations chose it, as many as B, which the identity chose too.
    assert found == {B: 2, D: 2, A: 1, C: 1, E: 1}
    assert list(found) == [B, D, A, C, E]


def test_a_transformation_that_is_shown_often_has_no_more_say() -> None:
    often = [Reading(view, A, -1.0) for view in range(4)]
    assert list(scores([*often, Reading(4, B, -1.0), Reading(6, B, -1.0)], "vote")) == [A, B]
    assert list(scores([*often, Reading(4, B, -1.0), Reading(6, B, -1.0)], "hierarchical_vote")) == [B, A]
