import json
import shutil
from collections import Counter

import pytest

from arc_engine.errors import TaskTooLong
from arc_engine.pretraining.families import FAMILIES
from arc_engine.tasks import parse_task
from benchmarks import quality, quality_median, quality_task
from benchmarks.quality import SUBSET, of_subset, planned_tasks, quality_arguments
from benchmarks.quality_summary import figures, rows
from benchmarks.quality_synthetic import synthetic_tasks, unseen_families
from benchmarks.quality_tables import MEDIAN_PARTS, PARTS
from benchmarks.quality_task import Asked, measure
from benchmarks.sampling_plan import SELECTORS, Plan
from tests.benchmarks.test_sampling_task import TASK


@pytest.fixture
def plan(tiny_base):
    return Plan(base=tiny_base, steps=2, num_views=2, max_nodes=1, max_new_tokens=5, seed=0)


def test_a_task_is_answered_either_way_and_not_measured_again(plan, tmp_path, monkeypatch):
    record = measure(Asked("ours", "swap", TASK, plan), folder=tmp_path)
    for way in ("base", "adapted"):
        assert record[way]["error"] is None
        assert list(record[way]["pass_at_2"]) == list(SELECTORS)
    assert record["adapted"]["adapt_s"] > 0
    monkeypatch.setattr(quality_task, "TorchSampler", None)
    again = measure(Asked("a part of ours", "swap", TASK, plan), folder=tmp_path)
    assert again == record | {"dataset": "a part of ours"}
    other = {**TASK, "test": [{"input": [[1, 6]], "output": [[6, 1]]}]}
    assert Asked("ours", "swap", other, plan).place(tmp_path) != Asked("ours", "swap", TASK, plan).place(tmp_path)


def test_a_task_that_does_not_fit_counts_as_wrong(plan, tmp_path, monkeypatch):
    def too_long(*_, **__):
        raise TaskTooLong("9000 tokens")

    monkeypatch.setattr(quality_task, "answered", too_long)
    record = measure(Asked("ours", "swap", TASK, plan), folder=tmp_path)
    assert record["base"]["error"] == record["adapted"]["error"] == "task_too_long"
    found = figures([record])["ours"]
    assert (found["num_tasks"], found["num_too_long"], found["pass_at_2_adapted"]) == (1, 1, 0)


def test_synthetic_tasks_are_apart_by_what_the_model_has_seen(tmp_path):
    assert unseen_families(tmp_path) == frozenset()
    trained = sorted(FAMILIES.keys() - {"flip", "roll"})
    (tmp_path / "training.json").write_text(json.dumps({"trained_families": trained}))
    unseen = unseen_families(tmp_path)
    tasks = synthetic_tasks(unseen)
    assert unseen == {"flip", "roll"}
    assert list(tasks) == ["flip-4", "roll-4", "flip-7", "roll-7"]
    assert tasks == synthetic_tasks(unseen)
    for task in tasks.values():
        parsed, solution = parse_task(task)
        assert len(parsed.train) == 3
        assert all(output is not None for output in solution.outputs)
        [asked] = task["test"]
        assert asked not in task["train"]
    arguments = quality_arguments(["--model", str(tmp_path), "--tasks", "3", "--datasets", "synthetic_unseen", SUBSET])
    planned = list(planned_tasks(arguments))
    by_dataset = Counter((asked.dataset, asked.plan.seed) for asked in planned)
    assert by_dataset == {("synthetic_unseen", 0): 3, (SUBSET, 0): 3, (SUBSET, 1): 3, (SUBSET, 2): 3}


def test_all_tasks_are_asked_unless_fewer_are_asked_for():
    planned = Counter(asked.dataset for asked in planned_tasks(quality_arguments(["--seeds", "1"])))
    assert planned["arc_agi_1_eval"] == 400
    assert planned["arc_agi_2_eval"] == 120
    assert planned[SUBSET] == 100
    assert planned["synthetic_fresh"] + planned["synthetic_unseen"] == 2 * len(FAMILIES)


def test_results_of_the_same_weights_and_settings_are_gone_on_with(tiny_base, tmp_path, monkeypatch):
    words = [
        "--model",
        str(tiny_base),
        "--datasets",
        "synthetic_fresh",
        "--steps",
        "1",
        "--views",
        "1",
        "--workers",
        "1",
    ]
    words += ["--max-new-tokens", "5", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "quality.json")]

    def run(*more):
        monkeypatch.setattr("sys.argv", ["quality", *words, *more])
        quality.main()
        return json.loads((tmp_path / "quality.json").read_text())

    first = run("--tasks", "1")
    shutil.rmtree(tmp_path / "work")  # another machine
    marked = {**first, "tasks": [{**first["tasks"][0], "cpu": "Abacus"}]}
    (tmp_path / "quality.json").write_text(json.dumps(marked))
    second = run("--tasks", "2")
    assert second["tasks"][0] == marked["tasks"][0]
    assert [record["task_id"] for record in second["tasks"]] == list(synthetic_tasks(frozenset(FAMILIES)))[:2]
    assert second["figures"]["synthetic_fresh"]["num_tasks"] == 2
    assert (second["num_asked"]["arc_agi_1_eval"], second["num_asked"]["synthetic_fresh"]) == (400, 2 * len(FAMILIES))
    assert run("--tasks", "1")["tasks"] == second["tasks"], "what is not asked for again stays"
    [record] = run("--tasks", "1", "--steps", "2")["tasks"]
    assert record["cpu"] != "Abacus"


def test_tasks_of_middling_length_are_measured_one_by_one(plan, tmp_path, monkeypatch):
    inputs = [{**TASK, "test": [{"input": [[colour, 9]], "output": [[9, colour]]}]} for colour in range(5)]
    asked = [Asked("ours", str(number), task, plan) for number, task in enumerate(inputs)]
    monkeypatch.setattr(quality_median, "planned_tasks", lambda _: iter(asked))
    monkeypatch.setattr("sys.argv", ["quality_median", "--tasks", "3", "--out", str(tmp_path / "median.json")])
    quality_median.main()
    measured = json.loads((tmp_path / "median.json").read_text())
    assert [row["task_id"] for row in measured["rows"]] == ["1", "2", "3"]
    for row in measured["rows"]:
        assert 0 < row["adapt_s"] < row["adapted_s"]
    figures = measured["figures"]
    assert figures["median_task_s"] <= figures["longest_task_s"] == max(row["adapted_s"] for row in measured["rows"])
    assert "The 3 tasks of middling length, one at a time: " in MEDIAN_PARTS["quality-median"](measured)


@pytest.mark.fast
def test_the_middle_is_around_the_median():
    assert quality_median.middle(range(400), num_tasks=11) == range(194, 205)
    assert quality_median.middle(range(3), num_tasks=11) == range(3)


def test_the_subset_is_not_asked_what_all_tasks_were_asked_under_the_same_seed():
    planned = list(planned_tasks(quality_arguments(["--datasets", "arc_agi_1_eval", SUBSET])))
    wholes = [asked for asked in planned if asked.dataset == "arc_agi_1_eval"]
    known = {asked.key: {"dataset": asked.dataset, "task_id": asked.task_id, "seed": 0} for asked in wholes}
    shared = of_subset(planned, known=known)
    assert list(shared) == [asked.key for asked in planned if asked.dataset == SUBSET and asked.plan.seed == 0]
    assert all(quality_task.key_of(record) == key for key, record in shared.items())
    assert of_subset(planned, known=known | shared) == {}
    assert of_subset(planned, known={}) == {}


def way(*, right, seconds=1.0):
    return {
        "error": None,
        "pass_n": float(right),
        "accuracy": right / 2,
        "pass_at_2": dict.fromkeys(SELECTORS, float(right)),
        "adapt_s": seconds,
        "seconds": seconds,
    }


@pytest.mark.fast
def test_shares_are_means_over_tasks_and_then_over_seeds():
    answers = {0: (True, False), 1: (True, True)}
    records = [
        {"dataset": "d", "task_id": str(number), "seed": seed, "base": way(right=False), "adapted": way(right=right)}
        for seed, of_seed in answers.items()
        for number, right in enumerate(of_seed)
    ]
    [row] = [row for row in rows(records) if (row["way"], row["selector"]) == ("adapted", "vote")]
    assert (row["pass_at_2"], row["std"]) == (0.75, 0.25)
    found = figures(records)["d"]
    assert (found["num_tasks"], found["num_seeds"], found["pass_at_2_base"], found["pass_at_2_adapted"]) == (
        2,
        2,
        0,
        0.75,
    )
    document = {
        "date": "2026-01-01",
        "command": "c",
        "machine": {"cpu": "Abacus", "cores": 2, "memory_gib": 8.0, "gpu": None},
        "versions": {"python": "3.11.1"},
        "plan": {"base": "m", "steps": 2, "num_views": 2},
        "figures": {**figures(records), "num_workers": 2},
        "rows": rows(records),
        "num_asked": {"d": 1},
        "tasks": [{"dataset": "d", "cpu": "Abacus"}],
    }
    assert "| d | adapted | vote | 75.0% ± 25.0 | 75.0% | 37.5% | 1 |" in PARTS["quality"](
        json.loads(json.dumps(document))
    )
    conditions = PARTS["quality-conditions"](document)
    assert "d: 2 tasks, 0 did not fit, 1 s per median task." in conditions
    assert "by processor" not in conditions
    document["tasks"] += [{"dataset": "d", "cpu": "Babbage"}] * 2
    document["num_asked"] = {"d": 4}
    conditions = PARTS["quality-conditions"](document)
    assert "d: 2 tasks (3 of 4 answers), 0 did not fit" in conditions
    assert "Answers by processor: Abacus: 1, Babbage: 2." in conditions
