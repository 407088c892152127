"""From what was measured task by task to a row per sampler and selection method."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any, Final

from arc_engine.settings import RESCORING
from benchmarks.sampling_plan import GREEDY, SAMPLERS, SELECTORS

DECIMALS: Final = 4
NOTHING: Final[dict[str, Any]] = {
    "found_any": 0.0,
    "candidates": 0.0,
    "completions": 0.0,
    "refused": 0.0,
    "unanswered": 1.0,
    "cut": 0.0,
    "sample_s": 0.0,
    "score_s": 0.0,
}
"""What a sampler that could not answer comes to; unanswered is wrong."""
BASELINE: Final = "vote"
"""The selection method that the others are compared with, task by task."""


def rows(tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per sampler and selector, each number the mean over all tasks, failed ones included.

    `gained` and `lost` count the tasks of which this selector has more right, or less, than the vote has on the same
    samples. `score_s` is 0 where nothing is scored again.
    """
    return [_row(tasks, sampler=sampler, selector=selector) for sampler in SAMPLERS for selector in SELECTORS]


def any_token(tasks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Greedy and vote, with grid tokens only and with every token, on the tasks that both answered."""
    both = [task for task in tasks if not _failed(task, GREEDY) and task["any_token"]["error"] is None]
    if not both:
        return {"num_tasks": 0}
    return {
        "num_tasks": len(both),
        "num_prompts": sum(task["any_token"]["num_prompts"] for task in both),
        "equal_outputs": _mean([task["any_token"]["num_equal"] for task in both])
        / _mean([task["any_token"]["num_prompts"] for task in both]),
        "pass_at_2": {
            "grid_tokens": _mean([task["samplers"][GREEDY]["selectors"][BASELINE]["pass_at_2"] for task in both]),
            "any_token": _mean([task["any_token"]["pass_at_2"] for task in both]),
        },
        "refused": {
            "grid_tokens": _mean([task["samplers"][GREEDY]["refused"] for task in both]),
            "any_token": _mean([task["any_token"]["refused"] for task in both]),
        },
        "sample_s": {
            "grid_tokens": _mean([task["samplers"][GREEDY]["sample_s"] for task in both]),
            "any_token": _mean([task["any_token"]["sample_s"] for task in both]),
        },
    }


def figures(tasks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How much was measured, and what adapting took.

    `measured_s` are the seconds of all tasks together, whether one run measured them or several did, without what
    failed.
    """
    adapted = [task for task in tasks if task["error"] is None]
    return {
        "num_tasks": len(tasks),
        "num_test_inputs": sum(task["num_inputs"] for task in adapted),
        "num_not_adapted": len(tasks) - len(adapted),
        "adapt_s": _mean([task["adapt_s"] for task in adapted]),
        "measured_s": round(sum(map(_seconds, adapted))),
    }


def _seconds(task: dict[str, Any]) -> float:
    answered = [one for one in task["samplers"].values() if one["error"] is None]
    any_token_s = task["any_token"].get("sample_s", 0.0)
    total: float = task["adapt_s"] + sum(one["sample_s"] + one["score_s"] for one in answered) + any_token_s
    return total


def _row(tasks: Sequence[dict[str, Any]], *, sampler: str, selector: str) -> dict[str, Any]:
    measured = [NOTHING if _failed(task, sampler) else task["samplers"][sampler] for task in tasks]
    right = [_pass_at_2(task, sampler=sampler, selector=selector) for task in tasks]
    by_vote = [_pass_at_2(task, sampler=sampler, selector=BASELINE) for task in tasks]
    return {
        "sampler": sampler,
        "selector": selector,
        "pass_at_2": _mean(right),
        **{name: _mean([one[name] for one in measured]) for name in NOTHING if name != "score_s"},
        "score_s": _mean([one["score_s"] for one in measured]) if selector in RESCORING else 0.0,
        "gained": sum(mine > theirs for mine, theirs in zip(right, by_vote, strict=True)),
        "lost": sum(mine < theirs for mine, theirs in zip(right, by_vote, strict=True)),
        "num_failed": sum(_failed(task, sampler) for task in tasks),
    }


def _pass_at_2(task: dict[str, Any], *, sampler: str, selector: str) -> float:
    if _failed(task, sampler):
        return 0.0
    share: float = task["samplers"][sampler]["selectors"][selector]["pass_at_2"]
    return share


def _failed(task: dict[str, Any], sampler: str) -> bool:
    return task["error"] is not None or task["samplers"][sampler]["error"] is not None


def _mean(values: Sequence[float]) -> float:
    return round(fmean(values), DECIMALS) if values else 0.0
