"""One task, adapted to once and answered by every sampler, its samples judged by every selection method."""

import json
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from arc_engine.adaptation.adapt import adapt
from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.datasets.sources import TaskJson
from arc_engine.errors import EngineError
from arc_engine.evaluation.metrics import Metrics, Predictions, mean, measure
from arc_engine.grids import Grid
from arc_engine.sampling.protocol import AdapterFolder, Sampled, Sampler
from arc_engine.sampling.torch_sampler import TorchSampler
from arc_engine.selection import Selection
from arc_engine.selection.confidence import features
from arc_engine.settings import SelectionMethod, SolveSettings
from arc_engine.solving import Answer, Assignment, answer
from arc_engine.tasks import Task, parse_task
from benchmarks.remembering import RememberingSampler
from benchmarks.sampling_plan import GREEDY, SAMPLERS, SELECTORS, Plan

DECIMALS: Final = 4
Record = dict[str, Any]
"""What is kept of a measurement, ready for JSON."""


@cache
def loaded_base(folder: Path) -> LoadedBase:
    """The base model, once per process."""
    return load_base(folder)


def measure_task(task_id: str, task_json: TaskJson, *, plan: Plan, folder: Path) -> Record:
    """What every sampler and selector made of the task; what `folder` holds already is not done again.

    A task that cannot be adapted to, and a sampler that cannot answer, have the error's code and no results.
    """
    file = folder / f"{task_id}.json"
    if file.exists():
        record: Record = json.loads(file.read_text(encoding="utf-8"))
        return record
    task, solution = parse_task(task_json)
    truths = tuple(output for output in solution.outputs if output is not None)
    try:
        adapter, adaptation = adapted(task_id, task, plan=plan, folder=folder)
    except EngineError as error:
        return kept({"task_id": task_id, "error": error.code}, file=file)
    record = {"task_id": task_id, "error": None, "num_inputs": len(task.test), **adaptation}
    torch_sampler = TorchSampler(load=loaded_base)
    samplers = {name: RememberingSampler(torch_sampler) for name in SAMPLERS}
    record["samplers"] = {
        name: _measured(task, truths, name=name, sampler=sampler, adapter=adapter, plan=plan)
        for name, sampler in samplers.items()
    }
    record["any_token"] = _any_token(
        task, truths, restricted=samplers[GREEDY], sampler=torch_sampler, adapter=adapter, plan=plan
    )
    torch_sampler.close()
    return kept(record, file=file)


def adapted(task_id: str, task: Task, *, plan: Plan, folder: Path) -> tuple[AdapterFolder, Record]:
    """The task's adapter, trained unless the folder holds it, and how its training went."""
    place = folder / "adapters" / task_id
    log = place / "training.json"
    settings = plan.settings(GREEDY, "vote")
    if not log.exists():
        begun, losses = time.perf_counter(), list[float]()
        trained = adapt(
            loaded_base(plan.base),
            [task],
            settings=plan.adaptation(),
            prompt=settings.prompt,
            observe=lambda step: losses.append(step.loss),
        ).adapter
        trained.save(place)
        seconds = round(time.perf_counter() - begun, 1)
        kept({"adapt_s": seconds, "last_loss": round(losses[-1], DECIMALS)}, file=log)
    adaptation: Record = json.loads(log.read_text(encoding="utf-8"))
    return AdapterFolder(task_id, place, plan.adaptation().adapter_rank), adaptation


def answered(
    task: Task, *, settings: SolveSettings, sampler: Sampler, adapter: AdapterFolder | None, plan: Plan
) -> Answer:
    """The answer that a job with these settings gives."""
    base = loaded_base(plan.base)
    return answer(
        Assignment(task, settings, adapter),
        sampler=sampler,
        tokenizer=base.tokenizer,
        base=base.folder,
        max_positions=base.max_positions,
    )


def num_equal(first: Mapping[Any, Sampled], second: Mapping[Any, Sampled]) -> tuple[int, int]:
    """For how many prompts the samples are the same tokens, and of how many; requests are compared in their order."""
    pairs = [
        (one, other)
        for firsts, seconds in zip(first.values(), second.values(), strict=True)
        if not isinstance(firsts, EngineError) and not isinstance(seconds, EngineError)
        for one, other in zip(firsts, seconds, strict=True)
    ]
    return sum([c.ids for c in one.completions] == [c.ids for c in other.completions] for one, other in pairs), len(
        pairs
    )


def _measured(
    task: Task,
    truths: tuple[Grid, ...],
    *,
    name: str,
    sampler: RememberingSampler,
    adapter: AdapterFolder,
    plan: Plan,
) -> Record:
    """One sampler under all selectors: it samples for the first, and scores for the first that asks for it."""
    try:
        answers = {
            selector: answered(
                task, settings=plan.settings(name, selector), sampler=sampler, adapter=adapter, plan=plan
            )
            for selector in SELECTORS
        }
    except EngineError as error:
        return {"error": error.code}
    counted = answers[SELECTORS[0]]
    return {
        "error": None,
        "found_any": round(metrics_of(counted, truths).pass_n, DECIMALS),
        "candidates": round(fmean(len(found) for found in counted.candidates), DECIMALS),
        "completions": round(fmean(counted.num_completions), DECIMALS),
        "num_completions": list(counted.num_completions),
        "num_views": plan.num_views,
        "refused": _refused(counted),
        "unanswered": round(fmean(not found for found in counted.candidates), DECIMALS),
        "cut": round(counted.num_cut / (plan.num_views * len(task.test)), DECIMALS),
        "num_tokens": counted.num_tokens,
        "sample_s": round(sampler.sample_s, 2),
        "score_s": round(sampler.score_s, 2),
        "selectors": {
            selector: {
                "pass_at_2": round(metrics_of(found, truths).pass_at_2, DECIMALS),
                "attempts": [
                    _attempts(selection, truth, selector=selector)
                    for selection, truth in zip(found.selections, truths, strict=True)
                ],
            }
            for selector, found in answers.items()
        },
    }


def metrics_of(found: Answer, truths: tuple[Grid, ...]) -> Metrics:
    """Averaged over the task's test inputs."""
    return mean(
        [
            measure(
                Predictions(
                    {candidate.grid: candidate.votes for candidate in selection.candidates},
                    num_predictions=num_completions,
                    attempts=(selection.attempts.attempt_1, selection.attempts.attempt_2),
                ),
                truth,
            )
            for selection, num_completions, truth in zip(found.selections, found.num_completions, truths, strict=True)
        ]
    )


def _refused(found: Answer) -> float:
    """The share of the completions that show no grid."""
    return round(sum(found.refusals.values()) / max(1, sum(found.num_completions)), DECIMALS)


def _attempts(selection: Selection, truth: Grid, *, selector: SelectionMethod) -> list[list[float]]:
    """What the confidence in each attempt is estimated from, and whether it is right; `ATTEMPT` names the numbers."""
    ranked = selection.candidates
    seen = features(ranked, completions_per_view=selection.completions_per_view, method=selector)
    return [
        [
            *(round(number, DECIMALS) for number in (one.share, one.log_probability, one.lead)),
            one.first,
            found.grid == truth,
            found.votes,
            len(found.findings),
        ]
        for one, found in zip(seen, ranked, strict=False)
    ]


def _any_token(
    task: Task,
    truths: tuple[Grid, ...],
    *,
    restricted: RememberingSampler,
    sampler: Sampler,
    adapter: AdapterFolder,
    plan: Plan,
) -> Record:
    """The same by greedy with every token allowed: how much of it comes out the same."""
    free = RememberingSampler(sampler)
    settings = plan.settings(GREEDY, "vote", grid_tokens_only=False)
    try:
        found = answered(task, settings=settings, sampler=free, adapter=adapter, plan=plan)
    except EngineError as error:
        return {"error": error.code}
    equal, num_prompts = num_equal(restricted.samples, free.samples)
    return {
        "error": None,
        "pass_at_2": round(metrics_of(found, truths).pass_at_2, DECIMALS),
        "refused": _refused(found),
        "num_equal": equal,
        "num_prompts": num_prompts,
        "sample_s": round(free.sample_s, 2),
    }


def kept(record: Record, *, file: Path) -> Record:
    """Writes the record, all of it or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(record), encoding="utf-8")
    partial.replace(file)
    return record
