"""A run on a tiny model: learns, repeats bit for bit, survives being killed, leaves an adapter that merges."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from arc_engine.base_finetuning.checkpoint import RunState
from arc_engine.base_finetuning.finetune import finetune_base
from arc_engine.base_finetuning.log import LOG_NAME
from arc_engine.base_models.merging import merge
from arc_engine.errors import Diverged
from tests.arc_engine.base_finetuning.tiny import tiny_recipe, write_tasks


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
    recipe = tiny_recipe(tiny_base, tasks, lora={"rank": 4, "alpha": 4096}, optimisation={"learning_rate": 1})
    recipe = recipe.model_copy(
        update={"optimisation": recipe.optimisation.model_copy(update={"learning_rate": 1e30, "warmup_steps": 0})}
    )
    with pytest.raises(Diverged, match="step 2"):
        finetune_base(recipe, out_dir=tmp_path)
    assert not (tmp_path / "adapter").exists()
