"""Synthetic tasks that a base model has not seen: of families that it was trained on, and of others."""

import json
from pathlib import Path
from typing import Final
from zlib import crc32

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
    """Those that the model's own `training.json` does not name as trained on; none where it names none."""
    file = model / "training.json"
    facts = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return frozenset(FAMILIES).difference(facts.get("trained_families", FAMILIES))


def synthetic_tasks(families: frozenset[str]) -> dict[str, TaskJson]:
    """Tasks by family and size, smallest first: the last pair is the question."""
    return {f"{name}-{max_side}": _task(name, max_side=max_side) for max_side in MAX_SIDES for name in sorted(families)}


def _task(name: str, *, max_side: int) -> TaskJson:
    rng = np.random.default_rng([SEED, max_side, crc32(name.encode())])  # whatever families there are besides
    *shown, asked = draw_pairs(FAMILIES[name], rng, size=SizeRange(MIN_SIDE, max_side), num_pairs=NUM_PAIRS)
    return {"train": [_json(pair) for pair in shown], "test": [_json(asked)]}


def _json(pair: Pair) -> dict[str, list[list[int]]]:
    return {"input": [list(row) for row in pair.input], "output": [list(row) for row in pair.output]}
