"""`arcadapt finetune-base`. Loads torch."""

from pathlib import Path

import yaml
from pydantic import ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from arc_engine.base_finetuning.finetune import finetune_base
from arc_engine.base_finetuning.recipe import Recipe, load_recipe
from arcadapt.cli.output import print_json, progress, results
from arcadapt.errors import InvalidOverride


def run(config: Path, out: Path, *, hours: float | None, max_steps: int | None, as_json: bool) -> None:
    """Fine-tunes by the recipe, with its budget replaced where the command says so."""
    recipe = _recipe(config, hours=hours, max_steps=max_steps)
    budget = f"{recipe.max_steps} steps" if recipe.max_steps is not None else f"{recipe.hours} h"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=progress()) as bar:
        steps = bar.add_task(f"{recipe.name}, {budget}: steps", total=recipe.max_steps)
        folder = finetune_base(recipe, out_dir=out, on_step=lambda state: bar.update(steps, completed=state.step))
    if as_json:
        print_json({"full": recipe.full, "folder": str(folder)})
    else:
        results().print(str(folder), soft_wrap=True)


def _recipe(config: Path, *, hours: float | None, max_steps: int | None) -> Recipe:
    try:
        return load_recipe(config).with_budget(hours=hours, max_steps=max_steps)
    except OSError as error:
        raise InvalidOverride(f"{config}: {error.strerror}") from error
    except (ValidationError, yaml.YAMLError) as error:
        raise InvalidOverride(f"{config}: {error}") from error
