import pytest

from arc_engine.candidates import Attempts
from arc_engine.scoring import score
from arc_engine.tasks import Solution

A, B, C = ((1,),), ((2,),), ((3, 3),)


def test_either_attempt_may_be_right_and_unknown_is_not_wrong() -> None:
    attempts = [Attempts(A, B, 0.5), Attempts(A, B, 0.5), Attempts(A, B, 0.5), Attempts(A, None, 1.0)]
    assert score(attempts, Solution((A, B, C, None))) == (True, True, False, None)


def test_an_absent_answer_is_wrong() -> None:
    assert score([Attempts(None, None, 0.0)], Solution((A,))) == (False,)


def test_attempts_and_solution_belong_to_the_same_task() -> None:
    with pytest.raises(ValueError, match="zip"):
        score([Attempts(A, B, 0.5)], Solution((A, B)))
