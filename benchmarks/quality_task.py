"""One task under one seed: answered by the base model as it is, and by the base model adapted to it."""

import hashlib
import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from arc_engine.datasets.sources import TaskJson
from arc_engine.errors import EngineError
from arc_engine.evaluation.metrics import NO_ANSWER, Metrics
from arc_engine.grids import Grid
from arc_engine.sampling.protocol import AdapterFolder
from arc_engine.sampling.torch_sampler import TorchSampler
from arc_engine.tasks import Task, parse_task
from benchmarks.machine import machine
from benchmarks.remembering import RememberingSampler
from benchmarks.sampling_plan import GREEDY, SELECTORS, Plan
from benchmarks.sampling_task import DECIMALS, adapted, answered, kept, loaded_base, metrics_of

BASE: Final = "base"
ADAPTED: Final = "adapted"
WAYS: Final = (BASE, ADAPTED)
Record: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, str, int]
"""Dataset, task and seed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A task of a dataset, under the seed of a plan."""

    dataset: str
    task_id: str
    task: TaskJson
    plan: Plan

    @property
    def key(self) -> Key:
        """What its record is found by."""
        return self.dataset, self.task_id, self.plan.seed

    def place(self, folder: Path) -> Path:
        """The folder of what was measured: the same for the same task of another dataset."""
        content = hashlib.sha256(json.dumps(self.task, sort_keys=True).encode()).hexdigest()
        return folder / self.plan.digest() / f"{self.task_id}-{content[:8]}"


def key_of(record: Record) -> Key:
    """That of the task that it is of."""
    return record["dataset"], record["task_id"], record["seed"]


def measure(asked: Asked, *, folder: Path) -> Record:
    """What either way made of the task; not done again if `folder` holds it. A way that failed has the error's code."""
    place, described = asked.place(folder), {"dataset": asked.dataset, "task_id": asked.task_id}
    file = place / "record.json"
    if file.exists():
        record: Record = json.loads(file.read_text(encoding="utf-8"))
        return described | record
    task, solution = parse_task(asked.task)
    truths = tuple(output for output in solution.outputs if output is not None)
    ways = {way: _way(task, truths, asked=asked, folder=place, is_adapted=way == ADAPTED) for way in WAYS}
    return described | kept({"seed": asked.plan.seed, "cpu": machine()["cpu"], **ways}, file=file)


def _way(task: Task, truths: tuple[Grid, ...], *, asked: Asked, folder: Path, is_adapted: bool) -> Record:
    loaded_base(asked.plan.base)  # once per process: no task's seconds
    begun = time.perf_counter()
    with_torch = TorchSampler(load=loaded_base)
    try:
        adapter = adapted(asked.task_id, task, plan=asked.plan, folder=folder)[0] if is_adapted else None
        adapt_s = time.perf_counter() - begun
        found = _found(task, truths, adapter=adapter, plan=asked.plan, sampler=RememberingSampler(with_torch))
    except EngineError as error:
        adapt_s = time.perf_counter() - begun
        found = dict.fromkeys(SELECTORS, NO_ANSWER)
        failed: str | None = error.code
    else:
        failed = None
    finally:
        with_torch.close()
    first = found[SELECTORS[0]]
    return {
        "error": failed,
        "pass_n": round(first.pass_n, DECIMALS),
        "accuracy": round(first.accuracy, DECIMALS),
        "pass_at_2": {selector: round(metrics.pass_at_2, DECIMALS) for selector, metrics in found.items()},
        "adapt_s": round(adapt_s, DECIMALS),
        "seconds": round(time.perf_counter() - begun, DECIMALS),
    }


def _found(
    task: Task, truths: tuple[Grid, ...], *, adapter: AdapterFolder | None, plan: Plan, sampler: RememberingSampler
) -> dict[str, Metrics]:
    """By selection method, all on the same samples."""
    ask = partial(answered, task, sampler=sampler, adapter=adapter, plan=plan)
    return {selector: metrics_of(ask(settings=plan.settings(GREEDY, selector)), truths) for selector in SELECTORS}
