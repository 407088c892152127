"""`arcadapt pretrain`. Loads torch."""

from pathlib import Path
from typing import Final

import yaml
from pydantic import ValidationError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from arc_engine.allocator import keep_freed_memory
from arc_engine.pretraining.export import export
from arc_engine.pretraining.recipe import Recipe, load_recipe
from arc_engine.pretraining.run import LOG_NAME, pretrain
from arc_engine.training.processes import join_processes
from arcadapt.cli.output import print_json, progress, results
from arcadapt.errors import InvalidOverride
from arcadapt.pretraining_picture import draw_run

MODEL_FOLDER: Final = "model"
PICTURE: Final = "progress.png"


def run(config: Path, out: Path, *, hours: float | None, max_steps: int | None, as_json: bool) -> None:
    """Trains by the recipe, with its budget replaced where the command says so, and exports the result.

    A run that is finished already is not trained further, but exported again. One of several processes talks and
    exports.
    """
    keep_freed_memory()
    recipe = _recipe(config, hours=hours, max_steps=max_steps)
    budget = f"{recipe.max_steps} steps" if recipe.max_steps is not None else f"{recipe.hours} h"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    speaks = join_processes().is_main_process
    with Progress(*columns, console=progress(), disable=not speaks) as bar:
        steps = bar.add_task(f"{recipe.name}, {budget}: steps", total=recipe.max_steps)
        checkpoint = pretrain(recipe, out_dir=out, on_step=lambda state: bar.update(steps, completed=state.step))
    if not speaks:
        return
    model = out / MODEL_FOLDER
    with progress().status(f"measuring and exporting to {model}"):
        export(recipe, run_dir=out, out_dir=model)
    draw_run(out / LOG_NAME, out / PICTURE)
    if as_json:
        print_json({"model": str(model), "checkpoint": str(checkpoint), "picture": str(out / PICTURE)})
    else:
        results().print(str(model), soft_wrap=True)


def _recipe(config: Path, *, hours: float | None, max_steps: int | None) -> Recipe:
    try:
        recipe = load_recipe(config)
        if hours is None and max_steps is None:
            return recipe
        return Recipe.model_validate({**recipe.model_dump(), "hours": hours, "max_steps": max_steps})
    except OSError as error:
        raise InvalidOverride(f"{config}: {error.strerror}") from error
    except (ValidationError, yaml.YAMLError) as error:
        raise InvalidOverride(f"{config}: {error}") from error
