"""A run on a tiny model: learns, repeats bit for bit, survives being killed, leaves an adapter that merges."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from arc_engine.base_finetuning.checkpoint import RunState, read_state
from arc_engine.base_finetuning.data import SolvedTask
from arc_engine.base_finetuning.finetune import finetune_base
from arc_engine.base_finetuning.log import LOG_NAME
from arc_engine.base_finetuning.validation import ValidationSet
from arc_engine.base_models.folders import copy_companions
from arc_engine.base_models.loading import load_base
from arc_engine.base_models.merging import merge
from arc_engine.errors import Diverged, RunMismatch, UnevenShares
from arc_engine.sampling.torch_sampler import TorchSampler
from arc_engine.settings import SolveSettings
from arc_engine.solving import Assignment, answer
from arc_engine.tasks import Pair, parse_task
from arc_engine.training import processes
from arc_engine.training.processes import join_processes
from tests.arc_engine.base_finetuning.tiny import small_task, tiny_recipe, write_tasks
from tests.arc_engine.torchrun import in_two_processes


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="module")
def finished(tiny_base: Path, tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a complete run."""
    out_dir = tmp_path_factory.mktemp("run")
    finetune_base(tiny_recipe(tiny_base, tasks), out_dir=out_dir)
    return out_dir


def records(out_dir: Path, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (out_dir / LOG_NAME).read_text().splitlines())
    return [record for record in lines if record["kind"] == kind]


def losses(out_dir: Path) -> list[tuple[int, float]]:
    return [(record["step"], record["loss"]) for record in records(out_dir, "step")]


def weights(out_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(out_dir / "adapter" / "adapter_model.safetensors")


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def test_a_run_learns_and_says_so(finished: Path) -> None:
    logged = losses(finished)
    assert [step for step, _ in logged] == list(range(1, 13))
    assert sum(loss for _, loss in logged[-4:]) < sum(loss for _, loss in logged[:4])
    assert [record["step"] for record in records(finished, "validation")] == [6, 12]
    assert records(finished, "step")[-1]["tokens_per_s"] > 0


def test_the_manifest_says_what_was_trained_on_what(finished: Path) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["trained_on"] == ["t0", "t1", "t2", "t3", "t4"]  # t5 is for validation
    assert manifest["steps"] == 12
    assert manifest["validation"]["num_answers"] == 1


def test_the_adapter_merges_into_its_base(finished: Path, tiny_base: Path, tmp_path: Path) -> None:
    report = merge(tiny_base, finished / "adapter", tmp_path / "merged")
    assert report.adapter_rank == 4
    assert report.max_logit_change > 0.01


@pytest.mark.parametrize("killed_at", [3, 5, 9])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    finished: Path, tiny_base: Path, tasks: Path, tmp_path: Path, killed_at: int
) -> None:
    def kill(state: RunState) -> None:
        if state.step == killed_at:
            raise KilledError

    recipe = tiny_recipe(tiny_base, tasks)
    with pytest.raises(KilledError):
        finetune_base(recipe, out_dir=tmp_path, on_step=kill)
    steps: list[int] = []
    finetune_base(recipe, out_dir=tmp_path, on_step=lambda state: steps.append(state.step))
    assert steps[0] == (killed_at - 1) // 5 * 5 + 1
    assert losses(tmp_path) == losses(finished)
    assert_equal(weights(tmp_path), weights(finished))


def test_a_finished_run_does_not_go_on(finished: Path, tiny_base: Path, tasks: Path) -> None:
    steps: list[int] = []
    finetune_base(tiny_recipe(tiny_base, tasks), out_dir=finished, on_step=lambda state: steps.append(state.step))
    assert steps == []
    assert len(records(finished, "validation")) == 2


def test_a_run_that_diverges_leaves_no_adapter(tiny_base: Path, tasks: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_base, tasks)
    optimisation = recipe.optimisation.model_copy(update={"learning_rate": 1e30, "warmup_steps": 0})
    with pytest.raises(Diverged, match="step 2"):
        finetune_base(recipe.model_copy(update={"optimisation": optimisation}), out_dir=tmp_path)
    assert not (tmp_path / "adapter").exists()


def test_a_folder_with_another_run_is_refused(finished: Path, tiny_base: Path, tasks: Path, tmp_path: Path) -> None:
    with pytest.raises(RunMismatch, match="another recipe"):
        finetune_base(tiny_recipe(tiny_base, tasks, seed=4), out_dir=finished)
    other = tmp_path / "tasks.json"
    other.write_text(tasks.read_text().replace("t0", "renamed"))
    recipe = tiny_recipe(tiny_base, tasks)
    finetune_base(recipe.with_budget(hours=None, max_steps=1), out_dir=tmp_path / "run")
    tasks_before = tasks.read_text()
    try:
        tasks.write_text(other.read_text())
        with pytest.raises(RunMismatch, match="other tasks"):
            finetune_base(recipe, out_dir=tmp_path / "run")
    finally:
        tasks.write_text(tasks_before)


def test_a_run_does_not_go_on_from_another_base_in_the_same_place(tiny_base: Path, tasks: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    recipe = tiny_recipe(base, tasks, max_steps=1)
    finetune_base(recipe, out_dir=tmp_path / "run")
    (base / "README.md").write_text("what this is")
    finetune_base(recipe, out_dir=tmp_path / "run")
    stored = load_file(base / "model.safetensors")
    stored["model.norm.weight"] *= 2
    save_file(stored, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunMismatch, match="another base model"):
        finetune_base(recipe, out_dir=tmp_path / "run")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_weights_are_trained_and_stored_like_the_base(
    tiny_base: Path, tasks: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    given = load_base(tiny_base, device="cpu")
    given.model.to(dtype).save_pretrained(tmp_path / "base")
    copy_companions(tiny_base, tmp_path / "base")
    recipe = tiny_recipe(tmp_path / "base", tasks, lora=None, full=True, max_steps=8)
    folder = finetune_base(recipe, out_dir=tmp_path)
    logged = [loss for _, loss in losses(tmp_path)]
    assert sum(logged[-2:]) < sum(logged[:2])
    before, stored = (load_file(each / "model.safetensors") for each in (tmp_path / "base", folder))
    assert {name: (each.shape, each.dtype) for name, each in stored.items()} == {
        name: (each.shape, each.dtype) for name, each in before.items()
    }
    base, trained = load_base(tmp_path / "base", device="cpu"), load_base(folder, device="cpu")
    after = dict(trained.model.named_parameters())
    assert all(not torch.equal(tensor, after[name]) for name, tensor in base.model.named_parameters())
    assert trained.tokenizer.encode("I12", add_special_tokens=False) == base.tokenizer.encode(
        "I12", add_special_tokens=False
    )
    assert trained.model.config.tie_word_embeddings


def test_gradient_checkpointing_changes_no_loss(tiny_base: Path, tasks: Path, tmp_path: Path) -> None:
    two = {"batch_tokens": None, "batch_size": 4, "gradient_accumulation": 2, "max_steps": 3}
    finetune_base(tiny_recipe(tiny_base, tasks, **two), out_dir=tmp_path / "plain")
    finetune_base(tiny_recipe(tiny_base, tasks, **two, gradient_checkpointing=True), out_dir=tmp_path / "again")
    assert dict(losses(tmp_path / "again")) == pytest.approx(dict(losses(tmp_path / "plain")), rel=1e-6)


def test_dropout_is_on_in_training_repeats_after_a_kill_and_is_off_in_validation(
    tiny_base: Path, tasks: Path, tmp_path: Path
) -> None:
    def kill(state: RunState) -> None:
        if state.step == 3:
            raise KilledError

    plain = tiny_recipe(tiny_base, tasks, max_steps=4, checkpoint_every_steps=1)
    dropping = tiny_recipe(tiny_base, tasks, max_steps=4, checkpoint_every_steps=1, lora={"rank": 4, "dropout": 0.5})
    for name, recipe in (("plain", plain), ("whole", dropping)):
        finetune_base(recipe, out_dir=tmp_path / name)
    with pytest.raises(KilledError):
        finetune_base(dropping, out_dir=tmp_path / "killed", on_step=kill)
    random_state = torch.random.get_rng_state()
    finetune_base(dropping, out_dir=tmp_path / "killed")
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert losses(tmp_path / "whole") != losses(tmp_path / "plain")
    merge(tiny_base, tmp_path / "whole" / "adapter", tmp_path / "merged")
    measured = tiny_recipe(tmp_path / "merged", tasks, max_steps=1, optimisation={"learning_rate": 1e-30})
    finetune_base(measured, out_dir=tmp_path / "measured")
    ours, theirs = (records(tmp_path / name, "validation")[-1]["loss"] for name in ("whole", "measured"))
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_validation_agrees_with_greedy_decoding(tiny_base: Path, tmp_path: Path) -> None:
    """On a task that the model has learned by heart, and on one that it has not."""
    path = tmp_path / "one.json"
    one = small_task(0)
    path.write_text(json.dumps({"learned": one}))
    (tmp_path / "other.json").write_text(json.dumps({"other": small_task(1)}))
    plain = {"dihedral": False, "colours": False, "pair_order": False}
    recipe = tiny_recipe(
        tiny_base,
        path,
        full=True,
        lora=None,
        max_steps=40,
        augmentation=plain,
        examples={"leave_one_out": "off", "loss_on": "test_output"},
        validation={"source": str(tmp_path / "other.json"), "every_steps": 100},
    )
    folder = finetune_base(recipe, out_dir=tmp_path / "run")
    base = load_base(folder, device="cpu")
    for document, expected in ((one, True), (small_task(1), False)):
        task, solution = parse_task(document)
        solved = SolvedTask("x", task.train, tuple(map(Pair, task.test, solution.outputs)))
        report = ValidationSet(recipe, [solved], base.tokenizer, max_tokens=4096).measure(
            base, accelerator=join_processes()
        )
        settings = SolveSettings.model_validate({"adaptation": None, "sampling": {"num_views": 1}})
        found = answer(
            Assignment(task, settings, adapter=None),
            sampler=TorchSampler(load=lambda _: base),
            tokenizer=base.tokenizer,
            base=folder,
            max_positions=4096,
        )
        right = found.attempts[0].attempt_1 == solution.outputs[0]
        assert report.accuracy == right == expected


def test_a_budget_of_hours_ends(tiny_base: Path, tasks: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_base, tasks).with_budget(hours=1 / 3600, max_steps=None)
    finetune_base(recipe, out_dir=tmp_path)
    steps = records(tmp_path, "step")
    assert 0 < steps[-1]["elapsed_s"] < 10
    rates = [record["learning_rate"] for record in steps if record["step"] > 3]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("gradient_accumulation", [1, 3])
def test_processes_that_would_be_idle_are_refused(
    tiny_base: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gradient_accumulation: int
) -> None:
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    recipe = tiny_recipe(tiny_base, tasks, gradient_accumulation=gradient_accumulation)
    with pytest.raises(UnevenShares, match="a multiple of 2"):
        finetune_base(recipe, out_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_processes_share_a_step_and_come_to_the_same(tiny_base: Path, tasks: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_base, tasks, gradient_accumulation=2, max_steps=3)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    in_two_processes("finetune-base", config=tmp_path / "recipe.yaml", out=tmp_path / "two")
    assert json.loads((tmp_path / "two" / "manifest.json").read_text())["processes"] == 2
    finetune_base(recipe, out_dir=tmp_path / "one")
    assert dict(losses(tmp_path / "two")) == pytest.approx(dict(losses(tmp_path / "one")), rel=1e-6)
    for name, tensor in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], tensor)


def test_processes_that_see_different_checkpoints_do_not_go_on(
    tiny_base: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(tiny_base, tasks, max_steps=2, checkpoint_every_steps=1)
    finetune_base(recipe, out_dir=tmp_path)
    older = read_state(tmp_path / "checkpoints" / "step-00000001")
    for theirs in (None, older):  # what another process would have found in a folder of its own
        seen = theirs and (theirs.fingerprint, theirs.step)
        monkeypatch.setattr(processes, "gather_object", lambda mine, seen=seen: [*mine, seen])
        with pytest.raises(RunMismatch, match="see different checkpoints"):
            finetune_base(recipe, out_dir=tmp_path)
    monkeypatch.setattr(processes, "gather_object", lambda mine: mine * 2)
    finetune_base(recipe, out_dir=tmp_path)
