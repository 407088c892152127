"""Base fine-tuning from recipe to adapter or model."""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from arc_engine.base_finetuning.checkpoint import RunState
from arc_engine.base_finetuning.data import Data, load_data
from arc_engine.base_finetuning.recipe import Recipe
from arc_engine.base_finetuning.run import FineTuning, train
from arc_engine.base_finetuning.trainable import ADAPTER_FOLDER, MODEL_FOLDER, trainable
from arc_engine.base_models.manifest import MANIFEST_NAME, hash_folder
from arc_engine.base_models.sources import resolve
from arc_engine.training.processes import join_processes, require_even_shares


def finetune_base(
    recipe: Recipe,
    *,
    out_dir: Path,
    folder: Path = Path(),
    models_dir: Path | None = None,
    allow_evaluation_tasks: bool = False,
    on_step: Callable[[RunState], None] | None = None,
) -> Path:
    """Fine-tunes until the recipe's budget is used; the folder of the adapter, or of the model.

    The recipe's relative paths are taken from `folder`, its `local:NAME` is a folder in `models_dir`.

    Started again on the same `out_dir` it goes on from the newest checkpoint; with a budget of `max_steps` the result
    is bit for bit that of an uninterrupted run on the same machine, with the same number of threads and processes.
    Several processes, of `accelerate launch` or `torchrun`, share the work. `on_step` is called after every step.

    Raises `InvalidTaskSource`, `ContaminatedDataset`, `BaseModelError`, `PrecisionUnsupported`, `LoraUnsupported`,
    `EncoderUnsupported`, `PromptUnsupported`, `TaskTooLong`, `RunMismatch` if `out_dir` holds a run of another recipe,
    `UnevenShares` if the number of processes does not divide the micro-batches of a step, and `Diverged`, which leaves
    the last checkpoint.
    """
    accelerator = join_processes()
    require_even_shares(recipe.gradient_accumulation, accelerator=accelerator)
    data = load_data(recipe, folder=folder, allow_evaluation_tasks=allow_evaluation_tasks)
    beside = folder / recipe.base_model
    source = str(beside) if beside.is_dir() else recipe.base_model
    base_folder = resolve(source, revision=recipe.revision, models_dir=models_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    with trainable(base_folder, recipe, device=str(accelerator.device)) as trained:
        run = FineTuning(recipe, data, trained, accelerator=accelerator, out_dir=out_dir)
        train(run, on_step=on_step)
        if accelerator.is_main_process:
            _write_manifest(out_dir, run=run, data=data, written=trained.save(out_dir), base_folder=base_folder)
    accelerator.wait_for_everyone()
    return out_dir / (MODEL_FOLDER if recipe.full else ADAPTER_FOLDER)


def _write_manifest(out_dir: Path, *, run: FineTuning, data: Data, written: Path, base_folder: Path) -> None:
    manifest = {
        "kind": "base fine-tuning",
        "recipe": run.recipe.model_dump(mode="json"),
        "base": {"name": base_folder.name, "files": hash_folder(base_folder)},
        "written": {"folder": written.name, "files": hash_folder(written)},
        "steps": run.state.step,
        "tokens": run.state.tokens,
        "elapsed_s": round(run.state.elapsed_s, 1),
        "processes": run.num_processes,
        "validation": run.last_validation,
        "trained_on": list(run.corpus.task_ids),
        "too_long": list(run.corpus.left_out),
        "evaluation_tasks": data.evaluation_tasks,
        "versions": {package: version(package) for package in ("torch", "transformers", "peft", "accelerate")},
    }
    (out_dir / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
