"""The parts of docs/benchmarks.md that `benchmarks.adapting` measures, on a processor and on a GPU."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from benchmarks.adapting_plan import NUM_REAL_TASKS, REAL, SHORTEST, SPREAD, WINDOW
from benchmarks.markdown import Part, Results, hardware, packages, percent, table

_TASKS: Final = {
    SHORTEST: f"the {NUM_REAL_TASKS} shortest tasks",
    SPREAD: f"{NUM_REAL_TASKS} tasks spread over all lengths",
}


def _conditions(results: Results) -> str:
    plan = results["plan"]
    precisions = dict.fromkeys(cell["precision"] for cell in results["cells"])
    sentences = [
        f"{', '.join(f'`{command}`' for command in results['commands'])}, {results['date']}.",
        f"{hardware(results['machine'])}; {packages(results['versions'])}.",
        f"Rank {plan['lora_rank']}, alpha {plan['lora_alpha']:g}, every linear layer, {' and '.join(precisions)} base,",
        "float32 adapters.",
        f"Medians of {plan['rounds']} rounds; tasks per hour are those of tasks with {plan['task_steps']} steps.",
    ]
    return " ".join(sentences) + "\n"


def _tasks(results: Results) -> str:
    """A table for each set of real tasks."""
    parts = [
        f"{cell['model']}, {_TASKS[cell['data']]} of `{results['plan']['source']}`: {_lengths(cell)} tokens, "
        f"{cell['steps']} steps of batch {cell['batch_size']}.\n\n{_ways(cell, rows)}\n{_verdict(rows)}"
        for cell, rows in _by_cell(results)
        if cell["data"] in REAL
    ]
    return "\n".join(parts) or "No real tasks.\n"


def _lengths(cell: Results) -> str:
    lengths = sorted(cell["tasks"].values())
    return f"{lengths[0]:,} to {lengths[-1]:,}"


def _ways(cell: Results, rows: Sequence[Results]) -> str:
    header = (
        "way",
        "ms per task-step",
        "least to most",
        "start-up, s",
        "tasks per hour",
        "to Trainer",
        "to PEFT loop",
        "GFLOP/s",
        "of matmul",
    )
    return table(header, [_way(row, cell, rows) for row in rows])


def _way(row: Results, cell: Results, rows: Sequence[Results]) -> tuple[str, ...]:
    if row["error"] is not None:
        return (row["way"], row["error"], *[""] * 7)
    step = row["step_ms"]
    return (
        row["way"],
        f"{step['median']:,.1f}",
        f"{step['least']:,.1f} to {step['most']:,.1f}",
        f"{row['startup_s']:.2f}",
        f"{_per_hour(row):,.1f}",
        *(_times(row, _found(rows, kind=kind)) for kind in ("trainer", "loop")),
        f"{row['gflops']:,.0f}",
        percent(row["gflops"] / _ceiling(cell)),
    )


def _verdict(rows: Sequence[Results]) -> str:
    """Our best against each of the others in one process, and against the best that they come to."""
    ours = _best([row for row in rows if row["kind"] == "ours"])
    theirs = _best([row for row in rows if row["kind"] != "ours"])
    if ours is None or theirs is None:
        return ""
    trainer, loop = _found(rows, kind="trainer"), _found(rows, kind="loop")
    return (
        f"Our best is {ours['way']}: {_times(ours, trainer)} the tasks per hour of the Trainer in one process, "
        f"{_times(ours, loop)} those of the loop in one process, {_times(ours, theirs)} those of the best of the "
        f"others ({theirs['way']}).\n"
    )


def _curves(results: Results) -> str:
    """Milliseconds per task-step by length, a table for each model."""
    synthetic = [(cell, rows) for cell, rows in _by_cell(results) if cell["data"] not in REAL]
    parts = []
    for model, group in groupby(synthetic, key=lambda pair: pair[0]["model"]):
        of_model = sorted(group, key=lambda pair: int(pair[0]["data"]))
        ways = list(dict.fromkeys(row["way"] for _, rows in of_model for row in rows))
        batch_sizes = dict.fromkeys(str(cell["batch_size"]) for cell, _ in of_model)
        header = ("tokens", *ways, "best of ours to Trainer", "to PEFT loop", "GFLOP/s", "of matmul", "matmul GFLOP/s")
        lines = [_length(cell, rows, ways) for cell, rows in of_model]
        vocabulary = f"{of_model[0][0]['vocabulary']:,} tokens of vocabulary"
        parts.append(f"{model}, {vocabulary}, batch {' and '.join(batch_sizes)}:\n\n{table(header, lines)}")
    return "\n".join(parts) or "No synthetic sequences.\n"


def _length(cell: Results, rows: Sequence[Results], ways: Sequence[str]) -> tuple[str, ...]:
    by_way = {row["way"]: row for row in rows}
    ours = _best([row for row in rows if row["kind"] == "ours"])
    products = cell["gflops_of_matmul"]
    return (
        f"{int(cell['data']):,}",
        *(_step(by_way.get(way)) for way in ways),
        *(_step_times(ours, _found(rows, kind=kind)) for kind in ("trainer", "loop")),
        "" if ours is None else f"{ours['gflops']:,.0f}",
        "" if ours is None else percent(ours["gflops"] / _ceiling(cell)),
        f"{products['square']:,.0f} square, {products['model']:,.0f} the model's",
    )


def _step(row: Results | None) -> str:
    if row is None:
        return ""
    return f"{row['step_ms']['median']:,.1f}" if row["error"] is None else "failed"


def _losses(results: Results) -> str:
    header = (
        "model",
        "sequences",
        "Trainer",
        "PEFT loop",
        "arcadapt",
        f"largest difference, first {WINDOW} steps",
        f"of means of the last {WINDOW}",
    )
    return table(header, [line for cell, rows in _by_cell(results) if (line := _loss(cell, rows)) is not None])


def _loss(cell: Results, rows: Sequence[Results]) -> tuple[str, ...] | None:
    """The last losses of all, and how far any of ours is from the loop's."""
    ours = [row for row in rows if row["kind"] == "ours" and row["error"] is None]
    loop = _found(rows, kind="loop")
    if not ours or loop is None:
        return None
    ends = dict.fromkeys(f"{row['last_loss']:.4f}" for row in ours)
    return (
        cell["model"],
        cell["data"],
        *("" if row is None else f"{row['last_loss']:.4f}" for row in (_found(rows, kind="trainer"), loop)),
        " and ".join(ends),
        *(f"{max(row[f'largest_difference_{end}'] for row in ours):.1e}" for end in ("first", "last")),
    )


def _by_cell(results: Results) -> Iterator[tuple[Results, list[Results]]]:
    for cell in results["cells"]:
        key = (cell["model"], cell["data"])
        yield cell, [row for row in results["rows"] if (row["model"], row["data"]) == key]


def _found(rows: Sequence[Results], *, kind: str) -> Results | None:
    """The row of that way of the others in one process with all cores, if it did not fail; of two, the faster one."""
    return _best([row for row in rows if row["kind"] == kind and not row["per_core"]])


def _best(rows: Sequence[Results]) -> Results | None:
    return max((row for row in rows if row["error"] is None), key=_per_hour, default=None)


def _per_hour(row: Results) -> float:
    tasks: float = row["tasks_per_hour"]["median"]
    return tasks


def _times(row: Results, other: Results | None) -> str:
    return "" if other is None else f"{_per_hour(row) / _per_hour(other):.2f}x"


def _step_times(row: Results | None, other: Results | None) -> str:
    if row is None or other is None:
        return ""
    return f"{other['step_ms']['median'] / row['step_ms']['median']:.2f}x"


def _ceiling(cell: Results) -> float:
    products: dict[str, float] = cell["gflops_of_matmul"]
    return max(products.values())


def _parts(prefix: str) -> dict[str, Part]:
    return {
        f"{prefix}-conditions": _conditions,
        f"{prefix}-tasks": _tasks,
        f"{prefix}-lengths": _curves,
        f"{prefix}-losses": _losses,
    }


PARTS: Final = _parts("adapting")
GPU_PARTS: Final = _parts("adapting-gpu")
