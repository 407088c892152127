"""The parts of docs/benchmarks.md that `benchmarks.quality` and `benchmarks.quality_median` measure."""

from collections import Counter
from typing import Final

from benchmarks.markdown import Part, Results, hardware, packages, percent, table


def _conditions(quality: Results) -> str:
    plan, found = quality["plan"], quality["figures"]
    answered = Counter(record["dataset"] for record in quality["tasks"])
    counted = (
        f"{name}: {_tasks(one['num_tasks'], answered[name], num_asked=quality['num_asked'][name])}, "
        f"{one['num_too_long']} did not fit, {one['median_task_s']:.0f} s per median task"
        for name, one in found.items()
        if isinstance(one, dict)
    )
    sentences = [
        f"`{quality['command']}`, {quality['date']}.",
        f"{plan['base']}, {plan['steps']} steps, {plan['num_views']} views, greedy.",
        f"{'; '.join(counted)}.",
        *_processors(quality),
        f"{hardware(quality['machine'])}; {found['num_workers']} tasks at a time, one thread each.",
        f"{packages(quality['versions'])}.",
    ]
    return " ".join(sentences) + "\n"


def _tasks(num_tasks: int, num_answers: int, *, num_asked: int) -> str:
    """Says so where not all is measured."""
    return f"{num_tasks} tasks" + (f" ({num_answers} of {num_asked} answers)" if num_answers < num_asked else "")


def _processors(quality: Results) -> list[str]:
    """What another machine measured, where one did."""
    of_each = Counter(record["cpu"] for record in quality["tasks"])
    return (
        [f"Answers by processor: {', '.join(f'{cpu}: {n}' for cpu, n in of_each.items())}."] if len(of_each) > 1 else []
    )


def _quality(quality: Results) -> str:
    header = ("tasks", "base model", "selection", "pass@2", "pass_n", "accuracy", "median s")
    lines = [
        (
            row["dataset"],
            row["way"],
            row["selector"],
            percent(row["pass_at_2"]) + ("" if row["std"] is None else f" ± {100 * row['std']:.1f}"),
            percent(row["pass_n"]),
            percent(row["accuracy"]),
            f"{row['median_s']:.0f}",
        )
        for row in quality["rows"]
    ]
    return table(header, lines)


def _median(measured: Results) -> str:
    found = measured["figures"]
    seconds = {name: f"{value:.0f} s" for name, value in found.items() if name.endswith("_s")}
    return (
        f"`{measured['command']}`, {measured['date']}. "
        f"The {found['num_tasks']} tasks of middling length, one at a time: "
        f"{seconds['median_task_s']} per median task adapted, {seconds['median_adapt_s']} of which are the training, "
        f"{seconds['longest_task_s']} at most; {seconds['median_base_s']} without adaptation. "
        f"{hardware(measured['machine'])}. {packages(measured['versions'])}.\n"
    )


PARTS: Final[dict[str, Part]] = {"quality-conditions": _conditions, "quality": _quality}
MEDIAN_PARTS: Final[dict[str, Part]] = {"quality-median": _median}
