"""How soon a model that knows nothing learns one rule, and what helps: every way on one core, on the same tokens.

    python -m benchmarks.one_skill

A half turn is the same under every view, so that there is nothing to choose; a flip has one of two axes, which only the
pairs tell. Writes `benchmarks/results/one-skill.json`.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.random import Generator

from arc_engine.pretraining.families import FAMILIES, Family, Rule, SizeRange
from arc_engine.pretraining.families.drawing import any_inputs
from arc_engine.pretraining.recipe import Recipe
from arc_engine.pretraining.run import LOG_NAME, Pretraining
from arc_engine.pretraining.synthetic import draw_pairs
from arc_engine.pretraining.validation import HeldOutTask, validate
from benchmarks.machine import machine, versions
from benchmarks.results import ONE_SKILL, write

Row: TypeAlias = dict[str, Any]
MAX_SIDE: Final = 4
NUM_ASKED: Final = 100
GUIDED: Final = {"guidance": {"reading_layer": 1, "applying_layer": 3, "recalling_layer": 4}}
UNEVEN: Final = {"beginning": {"query_key_gain": 3.0, "zero_outputs": True}}
WAYS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "half turn": ("half_turn", {}),
    "flip": ("flip", {}),
    "flip, uneven beginning": ("flip", UNEVEN),
    "flip, uneven and guided": ("flip", GUIDED | UNEVEN),
    "recolouring, uneven beginning": ("recolour_map", UNEVEN),
    "recolouring, uneven and guided": ("recolour_map", GUIDED | UNEVEN),
}
"""The family that is learned, and what differs in the recipe."""


def _half_turn(rng: Generator, size: SizeRange) -> Rule:
    return Rule(any_inputs(rng, size), lambda grid: np.rot90(grid, 2))


HALF_TURN: Final = Family("half_turn", "geometry", 1, _half_turn)


def main() -> None:
    """Trains and writes."""
    arguments = _arguments()
    plan = [(way, seed) for way in WAYS for seed in range(1, arguments.seeds + 1)]
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(partial(learned, tokens=arguments.tokens), *zip(*plan, strict=True)))
    document = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.one_skill", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "figures": {way: fmean(row["exact"] for row in rows if row["way"] == way) for way in WAYS},
        "tokens": arguments.tokens,
        "rows": rows,
    }
    write(document, arguments.out)


def learned(way: str, seed: int, *, tokens: int) -> Row:
    """The mean loss of answers in every eighth of the tokens, in nats, and the share of exact answers at the end."""
    torch.set_num_threads(1)
    name, changes = WAYS[way]
    if name == HALF_TURN.name:
        FAMILIES[name] = HALF_TURN  # in this process alone
    with TemporaryDirectory() as folder:
        run = Pretraining(_recipe(name, changes, seed=seed), out_dir=Path(folder))
        while run.state.tokens < tokens:
            run.step(0.0)
        losses = _mean_losses(Path(folder) / LOG_NAME, eighth=tokens / 8)
        return {"way": way, "seed": seed, "steps": run.state.step, "losses": losses, "exact": _exact(run, name)}


def _recipe(family: str, changes: Mapping[str, Any], *, seed: int) -> Recipe:
    stage = {"name": "all", "until": 1.0, "max_side": MAX_SIDE, "families": [family]}
    fields = {
        "name": "one skill",
        "seed": seed,
        "max_steps": 10**6,
        "precision": "bfloat16",
        "grid_encoder": "CoordinateEncoder()",
        "model": {"num_heads": 3},
        "optimisation": {"muon_learning_rate": 0.004, "adamw_learning_rate": 0.003},
        "held_out": {"tasks_per_family": 1},
        "stages": [stage | {"max_tokens": 512, "batch_tokens": 1000}],
        "log_every_steps": 1,
    }
    return Recipe.model_validate(fields | dict(changes))


def _mean_losses(log: Path, *, eighth: float) -> list[float]:
    eighths: list[list[float]] = [[] for _ in range(8)]
    for record in map(json.loads, log.read_text(encoding="utf-8").splitlines()):
        eighths[min(7, int(record["tokens"] / eighth))].append(record["loss"])
    return [round(fmean(losses), 3) for losses in eighths if losses]


def _exact(run: Pretraining, family: str) -> float:
    rng, tasks = np.random.default_rng(0), list[HeldOutTask]()
    for _ in range(NUM_ASKED):
        pairs = draw_pairs(FAMILIES[family], rng, size=SizeRange(2, MAX_SIDE), num_pairs=4)
        tasks.append(HeldOutTask("asked", family, run.corpus.tokens_of(run.corpus.under_view(pairs, rng))))
    return validate(run.model, tasks).rate("synthetic")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=320_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, of one thread each")
    parser.add_argument("--out", type=Path, default=ONE_SKILL)
    return parser.parse_args()


if __name__ == "__main__":
    main()
