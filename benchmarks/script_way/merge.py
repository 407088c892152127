"""Folds a task's adapter into the base, for an engine that is to load one model.

    python -m benchmarks.script_way.merge RECIPE ADAPTER MERGED REPORT

ADAPTER and MERGED are folders.
"""

import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.script_way.recipe import Recipe
from benchmarks.script_way.report import Report


def main(recipe_file: Path, adapter: Path, merged: Path, report_file: Path) -> None:
    """Writes the folder of the merged model."""
    recipe, report = Recipe.read(recipe_file), Report()
    with report.stage("load"):
        base = AutoModelForCausalLM.from_pretrained(recipe.base, dtype=getattr(torch, recipe.dtype))
        model = PeftModel.from_pretrained(base, adapter)
    with report.stage("merge"):
        model.merge_and_unload().save_pretrained(merged)
        AutoTokenizer.from_pretrained(recipe.base).save_pretrained(merged)
    report.write(report_file)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
