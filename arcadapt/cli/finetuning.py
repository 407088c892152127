"""`arcadapt finetune-base`. Loads torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from pydantic import ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from arc_engine.base_finetuning.finetune import finetune_base
from arc_engine.base_finetuning.recipe import Recipe, load_recipe
from arc_engine.errors import ContaminatedDataset
from arc_engine.training.processes import join_processes
from arcadapt.cli.output import print_json, progress, results
from arcadapt.errors import InvalidOverride
from jobs.config import models_folder

WAYS_OUT: Final = "the recipe can leave them out (evaluation_tasks: leave_out), --allow-evaluation-tasks trains on them"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command says beside the recipe."""

    hours: float | None
    max_steps: int | None
    allow_evaluation_tasks: bool


def run(config: Path, out: Path, options: Options, *, as_json: bool) -> None:
    """Fine-tunes by the recipe, with its budget replaced where the command says so. One of several processes talks."""
    recipe = _recipe(config, options)
    speaks = join_processes().is_main_process
    budget = f"{recipe.max_steps} steps" if recipe.max_steps is not None else f"{recipe.hours} h"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=progress(), disable=not speaks) as bar:
        steps = bar.add_task(f"{recipe.name}, {budget}: steps", total=recipe.max_steps)
        try:
            folder = finetune_base(
                recipe,
                out_dir=out,
                folder=config.parent,
                models_dir=models_folder(),
                allow_evaluation_tasks=options.allow_evaluation_tasks,
                on_step=lambda state: bar.update(steps, completed=state.step),
            )
        except ContaminatedDataset as error:
            raise InvalidOverride(f"{config}: {error}; {WAYS_OUT}") from error
    if not speaks:
        return
    if as_json:
        print_json({"full": recipe.full, "folder": str(folder)})
    else:
        results().print(str(folder), soft_wrap=True)


def _recipe(config: Path, options: Options) -> Recipe:
    try:
        return load_recipe(config).with_budget(hours=options.hours, max_steps=options.max_steps)
    except OSError as error:
        raise InvalidOverride(f"{config}: {error.strerror}") from error
    except (ValidationError, yaml.YAMLError) as error:
        raise InvalidOverride(f"{config}: {error}") from error
