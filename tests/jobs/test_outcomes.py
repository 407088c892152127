"""What a job's record says once it is over."""

from typing import Any

import pytest

from jobs.outcomes import predictions

pytestmark = pytest.mark.fast

SETTINGS: dict[str, Any] = {"sampling": {"num_views": 8, "samples_per_view": 2}}
VOTES = {((1,),): 3}


def test_as_many_predictions_as_completions_were_made() -> None:
    found = predictions(VOTES, attempts=([[1]], None), settings=SETTINGS, num_completions=5)
    assert (found.num_predictions, found.attempts, found.votes) == (5, (((1,),), None), VOTES)


def test_a_search_may_find_nothing() -> None:
    assert predictions({}, attempts=(None, None), settings=SETTINGS, num_completions=0).num_predictions == 0


def test_an_earlier_version_made_as_many_as_it_was_asked_for() -> None:
    assert predictions(VOTES, attempts=([[1]], None), settings=SETTINGS).num_predictions == 16
