from typing import Any

import pytest

from benchmarks import one_skill
from benchmarks.machine import machine, versions
from benchmarks.one_skill import NUM_ASKED, WAYS, learned
from benchmarks.pretraining_tables import ONE_SKILL_PARTS


@pytest.fixture(autouse=True)
def few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_skill, "NUM_ASKED", 8)


def test_ways_differ_by_what_they_are_called() -> None:
    assert NUM_ASKED == 100
    recipes: dict[str, Any] = {way: one_skill._recipe("flip", changes, seed=1) for way, (_, changes) in WAYS.items()}
    for way, recipe in recipes.items():
        assert (recipe.guidance is not None) == ("guided" in way)
        assert (recipe.beginning.query_key_gain > 1) == ("uneven" in way)


def test_a_row_says_how_the_loss_falls() -> None:
    row = learned("flip, uneven and guided", 1, tokens=12_000)
    assert row["steps"] == pytest.approx(12, abs=3)
    assert 4 <= len(row["losses"]) <= 8
    assert row["losses"][-1] < row["losses"][0]
    assert 0 <= row["exact"] <= 1
    assert learned("flip, uneven and guided", 1, tokens=12_000) == row
    rows = [row | {"losses": [2.0] * 7 + [1.0]}, row | {"seed": 2, "losses": [2.0] * 7 + [0.5], "exact": row["exact"]}]
    measured = {"date": "a date", "command": "it", "machine": machine(), "versions": versions()}
    measured |= {"tokens": 400_000, "rows": rows}
    assert "| flip, uneven and guided | 2.00 | 2.00 | 2.00 | 0.75 |" in ONE_SKILL_PARTS["one-skill"](measured)
    assert "| loss to 0.1 M | loss to 0.2 M | loss to 0.3 M | loss to 0.4 M |" in ONE_SKILL_PARTS["one-skill"](measured)
    assert "0.4 million tokens a run, 2 seeds a way" in ONE_SKILL_PARTS["one-skill-conditions"](measured)
