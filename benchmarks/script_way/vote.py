"""Reads the completions as grids, undoes the views, votes, and writes Kaggle's `submission.json`.

    python -m benchmarks.script_way.vote RECIPE COMPLETIONS SUBMISSION REPORT

COMPLETIONS is the folder that `infer` wrote to.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

from arc_engine.base_models.reading import BaseReading, read_base
from arc_engine.sampling.protocol import Completion, Samples
from arc_engine.selection import Attempts, select
from arc_engine.tasks import Task
from benchmarks.script_way.recipe import Recipe
from benchmarks.script_way.report import Report

UNANSWERED: Final = [[0]]


def main(recipe_file: Path, completions: Path, submission: Path, report_file: Path) -> None:
    """Answers every task of the recipe from `COMPLETIONS/<task id>.json`."""
    recipe, report = Recipe.read(recipe_file), Report()
    with report.stage("vote"):
        base = read_base(recipe.base)
        answers = {
            task_id: vote(task, completions / f"{task_id}.json", recipe=recipe, base=base)
            for task_id, task in recipe.tasks.items()
        }
        submission.write_text(json.dumps(answers), encoding="utf-8")
    report.write(report_file)


def vote(task: Task, file: Path, *, recipe: Recipe, base: BaseReading) -> list[dict[str, Any]]:
    """Two attempts per test input."""
    views = recipe.views(task, tokenizer=base.tokenizer, max_positions=base.max_positions)
    samples = [
        Samples((Completion(tuple(ids), log_probability, finished),))
        for ids, log_probability, finished in json.loads(file.read_text(encoding="utf-8"))
    ]
    method = recipe.settings.selection.method
    return [_entry(select(tally, method=method, views=views.views).attempts) for tally in views.tallies(samples)]


def _entry(attempts: Attempts) -> dict[str, Any]:
    first, second = attempts.attempt_1, attempts.attempt_2
    return {"attempt_1": first or second or UNANSWERED, "attempt_2": second or first or UNANSWERED}


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
