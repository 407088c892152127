"""The scripts on a tiny real model: that they do what we do, with the libraries that they are to be fair to."""

import json

import pytest

from arc_engine.adaptation.adapt import adapt
from arc_engine.base_models.loading import load_base
from arc_engine.settings import AdaptationSettings, SamplingSettings, SelectionSettings, SolveSettings
from arc_engine.tasks import parse_task
from benchmarks import pipeline_scripts
from benchmarks.pipeline_record import Timed
from benchmarks.pipeline_scripts import TUNED_VLLM, ScriptFailed, Scripts
from benchmarks.script_way import finetune
from benchmarks.script_way.recipe import Recipe
from benchmarks.script_way.report import Report
from tests.benchmarks.test_sampling_task import TASK

OTHER = {
    "train": [{"input": [[1, 2], [3, 4]], "output": [[1]]}, {"input": [[5, 6]], "output": [[5]]}],
    "test": [{"input": [[7, 8]]}, {"input": [[9]]}],
}
STEPS, BATCH, VIEWS = 4, 2, 2


@pytest.fixture
def recipe(tiny_base):
    # A constant rate has no warm-up, of which transformers' first step has a rate of 0.
    adaptation = AdaptationSettings(
        max_steps=STEPS, batch_size=BATCH, lora_rank=4, learning_rate=0.01, lr_scheduler="constant"
    )
    return Recipe(
        base=tiny_base,
        dtype="float32",
        settings=SolveSettings(
            adaptation=adaptation,
            sampling=SamplingSettings(num_views=VIEWS, max_new_tokens=8, backend="vllm"),
            selection=SelectionSettings(method="vote"),
        ),
        tasks={"swap": parse_task(TASK)[0], "first": parse_task(OTHER)[0]},
    )


def test_a_recipe_comes_back_from_its_file(recipe, tmp_path):
    assert Recipe.read(recipe.write(tmp_path / "recipe.json")) == recipe
    assert "output" not in json.loads((tmp_path / "recipe.json").read_text())["tasks"]["swap"]["test"][0]


def test_the_script_trains_as_we_do(recipe, tmp_path):
    """Same sequences, same batches, same start, same steps: the losses are equal but for rounding."""
    base, losses, tokens = load_base(recipe.base, device="cpu"), {}, 0
    for task_id, task in recipe.tasks.items():
        steps = []
        adapt(base, [task], settings=recipe.adaptation, prompt=recipe.settings.prompt, observe=steps.append)
        losses[task_id] = [step.loss for step in steps]
        tokens += sum(step.tokens for step in steps)

    finetune.main(recipe.write(tmp_path / "recipe.json"), tmp_path / "adapters", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"] == {"steps": 2 * STEPS, "train_tokens": tokens}
    assert set(report["stages"]) == {"load", "training"}
    for task_id, ours in losses.items():
        assert report["last_losses"][task_id] == pytest.approx(sum(ours[-2:]) / 2, rel=1e-3)
        assert ours[-1] != pytest.approx(ours[0], rel=1e-3)


def test_scripts_answer_task_by_task_what_they_answer_together(recipe, tmp_path):
    by_task, together = (Scripts(recipe, tmp_path / name, TUNED_VLLM) for name in ("by-task", "together"))
    timed = by_task.side_by_side(2)
    assert timed.stages == {}
    assert set(timed.work) == {"process", "load", "training", "merge", "engine", "generation"}
    assert timed.seconds < sum(timed.work.values()) < 2 * timed.seconds
    assert (timed.counts["steps"], timed.counts["completions"]) == (2 * STEPS, 3 * VIEWS)
    vote, submission = by_task.vote()
    assert set(vote.stages) == {"process", "vote"}
    assert {task_id: len(entries) for task_id, entries in submission.items()} == {"swap": 1, "first": 2}

    timed_together = together.together()
    assert sum(timed_together.stages.values()) == pytest.approx(timed_together.seconds)
    assert timed_together.counts == timed.counts
    assert timed_together.last_losses == pytest.approx(timed.last_losses, rel=1e-3)
    assert together.vote()[1] == submission


def test_a_task_that_was_answered_is_not_answered_again(recipe, tmp_path, monkeypatch):
    (tmp_path / "tasks" / "swap").mkdir(parents=True)
    (tmp_path / "tasks" / "swap" / "record.json").write_text('{"seconds": 3.0, "stages": {"load": 3.0}}')
    monkeypatch.setattr(pipeline_scripts, "subprocess", None)
    assert Scripts(recipe, tmp_path).task("swap") == Timed(3.0, {"load": 3.0})


def test_a_script_that_fails_names_its_log(recipe, tmp_path):
    with pytest.raises(ScriptFailed, match=r"vote\.log"):
        Scripts(recipe, tmp_path).vote()
    assert "swap.json" in (tmp_path / "vote.log").read_text()


def test_a_report_adds_up():
    report = Report()
    for _ in range(2):
        with report.stage("load"):
            pass
        report.count("steps", 3)
    assert report.counts == {"steps": 6}
    assert set(report.stages) == {"load"}
