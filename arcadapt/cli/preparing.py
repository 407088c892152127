"""`arcadapt datasets ...`: what is done to datasets before they are used."""

import json
from collections.abc import Sequence
from pathlib import Path

from arc_engine.datasets.contamination import EvaluationGuard
from arc_engine.datasets.leave_one_out import FEWEST_DEMONSTRATIONS, leave_one_out
from arc_engine.datasets.sources import load_tasks
from arc_engine.datasets.subsets import Subset, take
from arcadapt.cli.output import print_json, results
from arcadapt.errors import ArcadaptError


def write_leave_one_out(sources: Sequence[str], out: Path, *, subset: Subset, as_json: bool) -> None:
    """Writes the leave-one-out form of the tasks, and says which tasks have too few demonstrations for it."""
    tasks = take(load_tasks(sources), subset)
    made = leave_one_out(tasks)
    left_out = [task_id for task_id, task in tasks.items() if len(task["train"]) < FEWEST_DEMONSTRATIONS]
    try:
        out.write_text(json.dumps(made))
    except OSError as error:
        raise ArcadaptError(f"{out}: {error.strerror}") from error
    if as_json:
        print_json({"path": str(out), "num_tasks": len(made), "made_of": len(tasks), "left_out": left_out})
        return
    console = results()
    console.print(f"{out}: {len(made)} tasks, made of {len(tasks) - len(left_out)}", soft_wrap=True)
    if left_out:
        console.print(f"left out, with one demonstration: {', '.join(left_out)}", soft_wrap=True)


def report_contamination(sources: Sequence[str], *, as_json: bool) -> bool:
    """Says which of the tasks give evaluation tasks away; whether there are none."""
    tasks = load_tasks(sources)
    found = EvaluationGuard().find(tasks)
    if as_json:
        print_json({"num_tasks": len(tasks), "found": found})
        return not found
    console = results()
    for task_id, evaluation_id in found.items():
        console.print(f"{task_id} is or contains evaluation task {evaluation_id}")
    console.print(f"{len(found)} of {len(tasks)} tasks give evaluation tasks of ARC-AGI-1 or -2 away")
    return not found
