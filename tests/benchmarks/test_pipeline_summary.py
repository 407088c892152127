import pytest

from benchmarks.pipeline_summary import COLD, SCRIPTS, TOGETHER, TUNED, WARM, WAYS, rows
from tests.benchmarks.pipeline_records import measured_round

pytestmark = pytest.mark.fast


def by_way(rounds):
    return {row["way"]: row for row in rows(rounds)}


def test_every_way_is_compared_with_every_kind_of_scripts():
    found = by_way([measured_round()])
    assert tuple(found) == WAYS
    assert found[WARM]["times_faster"] == {SCRIPTS: 10.0, TUNED: 8.0, TOGETHER: 5.0}
    assert found[COLD]["times_faster"] == {SCRIPTS: 5.0, TUNED: 4.0, TOGETHER: 2.5}
    assert found[SCRIPTS]["times_faster"][SCRIPTS] == 1.0
    assert found[WARM]["seconds_per_task"] == 10.0


def test_seconds_are_means_over_the_rounds():
    found = by_way([measured_round(scripts=180.0, right=("a", "b")), measured_round(scripts=240.0, warm=22.0)])
    assert found[SCRIPTS]["seconds"] == 210.0
    assert found[SCRIPTS]["seconds_by_round"] == [180.0, 240.0]
    assert found[SCRIPTS]["num_right"] == 1.5
    assert found[WARM]["times_faster"][SCRIPTS] == 10.0
    assert found[WARM]["last_loss"] == 0.2
    assert found[COLD]["stages"]["start"] == 20.0
    assert found[COLD]["work"] == {"adapt_s": 24.0, "sample_s": 6.0}
