import pytest

from arc_engine.grids import Grid
from arc_engine.scoring import score
from arc_engine.selection import Attempts
from arc_engine.tasks import Solution

pytestmark = pytest.mark.fast

A, B, C = ((1,),), ((2,),), ((3, 3),)


def attempts(first: Grid | None, second: Grid | None) -> Attempts:
    return Attempts(first, second, confidences=(0.5 if first else 0.0, 0.25 if second else 0.0))


def test_either_attempt_may_be_right_and_unknown_is_not_wrong() -> None:
    found = [attempts(A, B), attempts(A, B), attempts(A, B), attempts(A, None)]
    assert score(found, Solution((A, B, C, None))) == (True, True, False, None)


def test_an_absent_answer_is_wrong() -> None:
    assert score([attempts(None, None)], Solution((A,))) == (False,)


def test_attempts_and_solution_belong_to_the_same_task() -> None:
    with pytest.raises(ValueError, match="zip"):
        score([attempts(A, B)], Solution((A, B)))
