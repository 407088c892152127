"""Every setting changes what it should, and nothing else."""

from collections.abc import Mapping
from typing import Any

import pytest

from arc_engine.settings_reference import paths
from tests.settings.bench import Bench
from tests.settings.facets import TALLIES, BySteps, Close, Observation, Stream, changed, select
from tests.settings.row import GIVEN, Row
from tests.settings.rows import ROWS


def tree(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a client writes them, from dotted paths."""
    settings: dict[str, Any] = {}
    for path, value in values.items():
        *places, name = path.split(".")
        place = settings
        for each in places:
            place = place.setdefault(each, {})
        place[name] = value
    return settings


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.setting}={row.value}" for row in ROWS])
def test_a_setting_changes_what_it_should_and_nothing_else(bench: Bench, row: Row):
    before = bench.run(tree({**GIVEN, **row.given}), tasks=row.tasks)
    after = bench.run(tree({**GIVEN, **row.given, row.setting: row.value}), tasks=row.tasks)
    seen = changed(before, after)
    declared = select(row.changes, {facet for run in (before, after) for job in run.jobs for facet in job})
    assert seen - free(row, declared) == declared - free(row, declared)
    assert row.check(before, after)


def test_continue_starts_where_the_base_adapter_is(bench: Bench):
    continued = {**GIVEN, "base_model": "adapted", "adaptation.start": "continue"}
    with_adapter, without = (bench.run(tree(settings), tasks=["a"]) for settings in (continued, GIVEN))
    assert abs(with_adapter["first_loss"] - without["first_loss"]) > 0.05


def free(row: Row, changes: set[str]) -> set[str]:
    """The facets that may differ, as a consequence of those that do, but need not."""
    consequences = set(row.may)
    if "log_probabilities" in changes:
        consequences |= TALLIES | {"completions"} - changes
    if changes & {"completions", "num_prompts", "num_samples"}:
        consequences |= TALLIES
    return consequences


@pytest.mark.fast
def test_every_setting_has_a_row():
    assert {row.setting for row in ROWS} == set(paths())


@pytest.mark.fast
def test_what_a_run_shows_can_differ():
    def run(**facets: Any) -> Observation:
        return Observation((facets,))

    assert changed(run(a=1, b=2), run(a=1, b=3)) == {"b"}
    assert changed(run(a=1), run(b=1)) == {"a", "b"}
    assert changed(run(a=Stream((1, 2))), run(a=Stream((1, 2, 3)))) == set()
    assert changed(run(a=Stream((1, 2))), run(a=Stream((1, 3, 3)))) == {"a"}
    assert changed(run(a=BySteps({1: 1.0, 2: 2.0})), run(a=BySteps({2: 2.0, 3: 3.0}))) == set()
    assert changed(run(a=BySteps({1: 1.0, 2: 2.0})), run(a=BySteps({2: 2.1}))) == {"a"}
    assert changed(run(a=Close((1.0,))), run(a=Close((1.00001,)))) == set()
    assert changed(run(a=Close((1.0,))), run(a=Close((1.001,)))) == {"a"}
    assert changed(Observation(({"a": 1}, {"a": 1})), Observation(({"a": 1}, {"a": 2}))) == {"a"}
