"""What an experiment's document means, and where it is wrong."""

import json
from typing import Any

import pytest

from api.experiment_requests import ExperimentSubmission, parse_experiment
from api.problems import Problem
from arc_engine.settings import SolveSettings
from tests.api.conftest import TASK

pytestmark = pytest.mark.fast

Body = dict[str, Any]


def parse(max_jobs: int = 1000, **fields: Any) -> ExperimentSubmission:
    body = {"name": "x", "tasks": {"a": TASK}, **fields}
    return parse_experiment(json.dumps(body).encode(), max_jobs=max_jobs)


def faults(**fields: Any) -> dict[str, str]:
    with pytest.raises(Problem) as refused:
        parse(**fields)
    assert refused.value.code == "invalid_request"
    return {fault.pointer: fault.message for fault in refused.value.errors}


def test_families_set_and_vary_settings():
    experiment = parse(
        settings={"adaptation": {"max_steps": 7, "lora_rank": 3}, "sampling": {"num_views": 2}},
        cells=[
            {"name": "none", "set": {"adaptation": None}},
            {
                "name": "new",
                "set": {"adaptation.examples.loss_on": "all_outputs"},
                "grid": {
                    "adaptation.lora_rank": [1, 8],
                    "adaptation.learning_rate": [1e-3, 0.01],
                    "sampling.num_views": [5],
                },
            },
        ],
    )
    assert [cell.name for cell in experiment.cells] == [
        "none",
        "new lora_rank=1 learning_rate=0.001",
        "new lora_rank=1 learning_rate=0.01",
        "new lora_rank=8 learning_rate=0.001",
        "new lora_rank=8 learning_rate=0.01",
    ]
    none, *_, last = experiment.cells
    assert none.settings.adaptation is None
    assert none.settings.sampling.num_views == 2
    adaptation = last.settings.adaptation
    assert adaptation is not None
    assert (adaptation.max_steps, adaptation.lora_rank, adaptation.learning_rate) == (7, 8, 0.01)
    assert adaptation.examples.loss_on == "all_outputs"
    assert last.settings.sampling.num_views == 5
    assert last.changes == {
        "adaptation.examples.loss_on": "all_outputs",
        "adaptation.lora_rank": 8,
        "adaptation.learning_rate": 0.01,
        "sampling.num_views": 5,
    }


def test_cells_do_not_share_what_they_set():
    grid = {"adaptation.augmentation.colours": [True, False], "adaptation.augmentation.dihedral": [True, False]}
    combined = [cell.settings.adaptation.augmentation for cell in parse(grid=grid).cells]  # type: ignore[union-attr]
    assert [(a.colours, a.dihedral) for a in combined] == [(True, True), (True, False), (False, True), (False, False)]


def test_names_stay_apart_where_the_last_words_are_the_same():
    grid = {"adaptation.warmup.batch_size": [1], "adaptation.batch_size": [2]}
    [cell] = parse(grid=grid).cells
    assert cell.name == "adaptation.warmup.batch_size=1 adaptation.batch_size=2"


def test_an_experiment_may_be_about_seeds_alone():
    experiment = parse(seeds=[1, 2])
    assert [cell.name for cell in experiment.cells] == ["settings"]
    assert experiment.seeds == [1, 2]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"settings": {"adaptation": {"lora_rank": 0}}}, "/settings/adaptation/lora_rank"),
        ({"settings": {"adaptation": {"lora_rank": 0}}, "seeds": [1, 2]}, "/settings/adaptation/lora_rank"),
        ({"settings": {"wrong": 1}}, "/settings/wrong"),
        ({"grid": {"adaptation.lora_rank": [1, 0]}}, "/grid/adaptation.lora_rank/1"),
        ({"grid": {"adaptation.lora_rank": []}}, "/grid/adaptation.lora_rank"),
        ({"grid": {"adaptation.wrong": [1]}}, "/grid/adaptation.wrong/0"),
        ({"grid": {"adaptation..lora_rank": [1]}}, "/grid/adaptation..lora_rank"),
        ({"cells": [{"name": "a"}, {"name": "b", "set": {"wrong": 1}}]}, "/cells/1/set/wrong"),
        ({"cells": [{"name": "b", "set": {"adaptation": {"lora_rank": 0}}}]}, "/cells/0/set/adaptation/lora_rank"),
        ({"cells": [{"name": "b", "grid": {"adaptation.max_steps": ["2"]}}]}, "/cells/0/grid/adaptation.max_steps/0"),
        ({"cells": [{"name": "b", "set": {"a.b": 3}}], "settings": {"a": "m"}}, "/cells/0/set/a.b"),
        ({"cells": [{"name": "b", "set": {"adaptation.start": "warm", "adaptation.scope": "shared"}}]}, "/cells/0"),
        ({"grid": {"adaptation.init": ["orthogonal"], "adaptation.lora_rank": [3]}}, "/grid"),
        ({"settings": {"adaptation": {"init": "orthogonal", "lora_rank": 3}}}, "/settings/adaptation"),
        ({"cells": [{"name": "a"}, {"name": "a"}]}, "/cells/1"),
        ({"grid": {"adaptation.lora_rank": [1, 1]}}, "/grid"),
        ({"grid": {"adaptation.lora_rank": [1, 8], "adaptation": [{}]}}, "/grid/adaptation"),
        ({"grid": {"adaptation": [{}], "adaptation.examples.swap": [0.5]}}, "/grid/adaptation.examples.swap"),
        (
            {"cells": [{"name": "a", "set": {"base_model": "x"}, "grid": {"base_model": ["y"]}}]},
            "/cells/0/grid/base_model",
        ),
        ({"grid": {"adaptation.seed": [1]}}, "/grid/adaptation.seed/0"),
        ({"settings": {"sampling": {"seed": 1}}}, "/settings/sampling/seed"),
        ({"seeds": []}, "/seeds"),
        ({"seeds": [1, 1]}, ""),
        ({"seeds": [-1]}, "/seeds/0"),
        ({"cells": [{"name": "a"}], "grid": {"adaptation.lora_rank": [1]}}, ""),
        ({"cells": [{"name": "a|b"}]}, "/cells/0/name"),
        ({"tasks": {}}, "/tasks"),
        ({"tasks": {"a": TASK, "b": {"train": []}}}, "/tasks/b/test"),
        ({"tasks": {"a b": TASK}}, "/tasks/a b"),
        ({"name": ""}, "/name"),
        ({"wrong": 1}, "/wrong"),
    ],
)  # fmt: skip
def test_every_fault_has_its_place(fields: Body, pointer: str):
    assert list(faults(**fields)) == [pointer]


def test_a_fault_of_many_cells_is_told_once():
    grid = {"adaptation.lora_rank": [0, 1, 2], "adaptation.max_steps": [1, 2, 3]}
    assert list(faults(grid=grid)) == ["/grid/adaptation.lora_rank/0"]


def test_a_grid_beyond_all_bounds_is_counted_before_it_is_made():
    many = list(range(1, 1001))
    grid = {f"adaptation.{name}": many for name in ("lora_rank", "max_steps", "batch_size", "max_seq_len")}
    assert "1000000000000 jobs, 1000 are allowed" in faults(grid=grid)[""]


def test_a_grid_of_more_settings_than_there_are_is_refused_uncounted():
    # The product has more digits than Python prints.
    assert list(faults(grid={f"a{index}": [0] * 3 for index in range(10_000)})) == ["/grid"]


def test_the_number_of_cells_is_bounded_however_many_jobs_are_allowed():
    grid = {"adaptation.max_steps": list(range(1, 1001)), "adaptation.lora_rank": [1, 2, 3]}
    assert "3000 cells" in faults(max_jobs=10_000, grid=grid)[""]


def test_the_document_is_bounded_but_for_its_tasks():
    settings = {"adaptation": {"target_modules": ["q" * 200] * 1300}}
    assert "262144 bytes" in faults(settings=settings)[""]
    tasks = {f"task-{index}": {**TASK, "train": TASK["train"] * 10} for index in range(300)}
    assert len(json.dumps(tasks)) > 262144
    assert len(parse(tasks=tasks).tasks) == 300


def test_a_fault_that_all_cells_have_is_not_looked_for_in_all_of_them(monkeypatch: pytest.MonkeyPatch):
    looked: list[object] = []

    def count(values: object) -> SolveSettings:
        looked.append(values)
        return real(values)

    real = SolveSettings.model_validate
    monkeypatch.setattr(SolveSettings, "model_validate", count)
    grid = {"adaptation.max_steps": list(range(1, 1001))}
    assert list(faults(settings={"wrong": 1}, grid=grid)) == ["/settings/wrong"]
    assert len(looked) == 100


def test_the_order_of_names_makes_no_other_request():
    assert parse(seeds=[1], settings={}).sha256 == parse(settings={}, seeds=[1]).sha256
    assert parse(seeds=[1]).sha256 != parse(seeds=[2]).sha256
