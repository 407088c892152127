"""Synthetic tasks that a base model has not seen: of families that it was trained on, and of others."""

import json
from pathlib import Path
from typing import Final

import numpy as np

from arc_engine.datasets.sources import TaskJson
from arc_engine.pretraining.families import FAMILIES, SizeRange
from arc_engine.pretraining.synthetic import draw_pairs
from arc_engine.tasks import Pair

SEED: Final = 1_000_033
"""Of no training pool: those begin with the recipe's seed."""
NUM_PAIRS: Final = 4
MIN_SIDE: Final = 2
MAX_SIDES: Final = (4, 7)
"""Of the drawn grids, one task of a family for each."""


def unseen_families(model: Path) -> frozenset[str]:
    """Those that the model's own `training.json` names as held out; none without one."""
    facts = model / "training.json"
    if not facts.exists():
        return frozenset()
    return frozenset(json.loads(facts.read_text(encoding="utf-8")).get("unseen_families", ()))


def synthetic_tasks(families: frozenset[str]) -> dict[str, TaskJson]:
    """Tasks by family and size, smallest first: the last pair is the question."""
    return {
        f"{name}-{max_side}": _task(name, max_side=max_side, place=place)
        for max_side in MAX_SIDES
        for place, name in enumerate(sorted(FAMILIES))
        if name in families
    }


def _task(name: str, *, max_side: int, place: int) -> TaskJson:
    rng = np.random.default_rng([SEED, max_side, place])
    *shown, asked = draw_pairs(FAMILIES[name], rng, size=SizeRange(MIN_SIDE, max_side), num_pairs=NUM_PAIRS)
    return {"train": [_json(pair) for pair in shown], "test": [_json(asked)]}


def _json(pair: Pair) -> dict[str, list[list[int]]]:
    return {"input": [list(row) for row in pair.input], "output": [list(row) for row in pair.output]}
