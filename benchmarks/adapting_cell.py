"""One cell: every way warmed up, then all of them in turns, several rounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any, Final, TypeAlias

import torch

from arc_engine.base_models.loading import LoadedBase
from arc_engine.errors import EngineError
from arc_engine.settings import AdaptationSettings
from benchmarks.adapting_flops import ModelShape, ceilings
from benchmarks.adapting_jobs import Job
from benchmarks.adapting_plan import LOOP, TASK_STEPS, WINDOW, Cell, Way
from benchmarks.adapting_processes import CoreProcesses
from benchmarks.adapting_ways import Trained, train

WARM_UP_STEPS: Final = 2

Record: TypeAlias = dict[str, Any]
Rounds: TypeAlias = list[Trained]


@dataclass(frozen=True, slots=True)
class Bench:
    """What trains: the model in this process, and in one process per core where a way asks for that."""

    base: LoadedBase
    processes: CoreProcesses | None

    def train(self, way: Way, jobs: Sequence[Job], *, settings: AdaptationSettings) -> Trained:
        """Trains the jobs in that way; a pack that has more slots than there are jobs gets them again."""
        if way.per_core:
            if self.processes is None:
                raise ValueError(f"{way.title}: there are no such processes")
            return self.processes.train(way, jobs, settings=settings)
        repeated = [jobs[number % len(jobs)] for number in range(max(way.pack, len(jobs)))]
        return train(way, self.base, repeated, settings=settings)


def measure_cell(
    cell: Cell, jobs: Sequence[Job], *, bench: Bench, num_rounds: int, say: Callable[[str], None]
) -> Record:
    """What every way took and which losses it had; one that failed has the error instead."""
    trained: dict[Way, Rounds] = {way: [] for way in cell.ways}
    errors: dict[Way, str] = {}
    for number in range(num_rounds + 1):
        for way in (way for way in cell.ways if way not in errors):
            try:
                if number == 0:
                    _warm_up(way, cell, jobs, bench=bench)
                else:
                    trained[way].append(bench.train(way, jobs, settings=cell.settings()))
            except (EngineError, torch.OutOfMemoryError) as error:
                errors[way] = f"{type(error).__name__}: {error}".splitlines()[0]
            else:
                say(_progress(way, number, trained[way]))
    return {
        "cell": _described(cell, jobs, bench=bench),
        "rows": _rows(cell, jobs, trained, errors, bench=bench),
    }


def _warm_up(way: Way, cell: Cell, jobs: Sequence[Job], *, bench: Bench) -> None:
    """A few steps on the shortest sequences: whatever is done once in a process is done then."""
    shortest = min(jobs, key=lambda job: job.num_tokens)
    bench.train(way, [shortest.first_steps(WARM_UP_STEPS)], settings=cell.settings(steps=WARM_UP_STEPS))


def _progress(way: Way, number: int, rounds: Rounds) -> str:
    if number == 0:
        return f"{way.title}: warm"
    timing = rounds[-1].timing
    return f"{way.title}: {1000 * timing.step_s:.0f} ms a step, {timing.startup_s:.2f} s to start"


def _described(cell: Cell, jobs: Sequence[Job], *, bench: Bench) -> Record:
    lengths = [len(example) for job in jobs for batch in job.batches for example in batch]
    return {
        "model": cell.model,
        "data": cell.data,
        "tasks": {job.name: round(job.num_tokens / len(job.batches) / cell.batch_size) for job in jobs},
        "mean_tokens": round(fmean(lengths), 1),
        "batch_size": cell.batch_size,
        "steps": cell.steps,
        "learning_rate": cell.learning_rate,
        "precision": bench.base.precision,
        "vocabulary": bench.base.model.config.vocab_size,
        "threads": torch.get_num_threads(),
        "gflop_per_step": round(_step_flops(cell, jobs, bench=bench) / 1e9, 3),
        "gflops_of_matmul": {
            name: round(flops / 1e9, 1)
            for name, flops in ceilings(bench.base, num_tokens=round(fmean(lengths)) * cell.batch_size).items()
        },
    }


def _step_flops(cell: Cell, jobs: Sequence[Job], *, bench: Bench) -> float:
    """Of all steps, in the mean."""
    shape, rank = ModelShape.of(bench.base.model), cell.settings().lora_rank
    return fmean(shape.step_flops(batch, rank=rank) for job in jobs for batch in job.batches)


def _rows(
    cell: Cell, jobs: Sequence[Job], trained: Mapping[Way, Rounds], errors: Mapping[Way, str], *, bench: Bench
) -> list[Record]:
    flops = _step_flops(cell, jobs, bench=bench)
    reference = trained[LOOP][0].losses if trained.get(LOOP) else None
    rows = []
    for way in cell.ways:
        row = {"model": cell.model, "data": cell.data, "way": way.title, **asdict(way), "error": errors.get(way)}
        if way not in errors:
            row |= _figures(trained[way], flops=flops)
            row |= _compared(trained[way][0].losses, reference)
        rows.append(row)
    return rows


def _figures(rounds: Rounds, *, flops: float) -> Record:
    steps = [1000 * one.timing.step_s for one in rounds]
    return {
        "step_ms": _spread(steps),
        "startup_s": round(median(one.timing.startup_s for one in rounds), 4),
        "tasks_per_hour": _spread([one.timing.tasks_per_hour(steps=TASK_STEPS) for one in rounds]),
        "gflops": round(flops / median(steps) / 1e6, 1),
        "rounds": [[round(one.timing.step_s, 5), round(one.timing.startup_s, 4)] for one in rounds],
    }


def _spread(values: Sequence[float]) -> Record:
    return {
        name: round(value, 3)
        for name, value in (("median", median(values)), ("least", min(values)), ("most", max(values)))
    }


def _compared(losses: Sequence[Sequence[float]], reference: Sequence[Sequence[float]] | None) -> Record:
    """The mean loss at the end, and the largest differences of any job to the reference; a job trained twice counts
    twice."""
    compared: Record = {
        "last_loss": round(fmean(_last(job) for job in losses), 5),
        "largest_difference_first": None,
        "largest_difference_last": None,
    }
    if reference is not None:
        pairs = [(job, reference[number % len(reference)]) for number, job in enumerate(losses)]
        compared["largest_difference_first"] = max(
            abs(own - other) for job, theirs in pairs for own, other in zip(job[:WINDOW], theirs[:WINDOW], strict=True)
        )
        compared["largest_difference_last"] = max(abs(_last(job) - _last(theirs)) for job, theirs in pairs)
    return compared


def _last(losses: Sequence[float]) -> float:
    return fmean(losses[-WINDOW:])
