"""Writes the measured parts of docs/benchmarks.md anew, from the committed results.

    python -m benchmarks.tables docs/benchmarks.md

A part stands between `<!-- NAME: written by python -m benchmarks.tables -->` and `<!-- end of NAME -->`.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from arc_engine.settings import SolveSettings
from benchmarks.results import CALIBRATION, SAMPLING, read

Results: TypeAlias = dict[str, Any]
PART: Final = re.compile(
    r"(?P<begin><!-- (?P<name>[a-z-]+): written by [^>]*-->\n).*?(?P<end><!-- end of (?P=name) -->)", re.DOTALL
)

_FAMILIES: Final = {
    "counting": "Methods that count (vote, hierarchical_vote)",
    "rescoring": "Methods that ask the model again (product_of_experts, probmul, view_count_logprob)",
}


def written(page: str, *, sampling: Results | None, calibration: Results | None) -> str:
    """The page with all its parts as the results have them. Raises `KeyError` for a part that is none of ours."""

    def part(match: re.Match[str]) -> str:
        results = calibration if match["name"] == "calibration" else sampling
        text = _PARTS[match["name"]](results) if results else "Not measured yet.\n"
        return f"{match['begin']}{text}{match['end']}"

    return PART.sub(part, page)


def _conditions(sampling: Results) -> str:
    machine, plan, counts = sampling["machine"], sampling["plan"], sampling["figures"]
    device = f", {machine['gpu']}" if machine["gpu"] else ""
    sentences = [
        f"`{sampling['command']}`, {sampling['date']}.",
        f"{counts['num_tasks']} tasks of `{plan['source']}` with the shortest prompts,",
        f"{counts['num_test_inputs']} test inputs.",
        f"{plan['base']} adapted to each for {plan['steps']} steps, {counts['adapt_s']:.0f} s a task.",
        f"{counts['num_not_adapted']} could not be adapted to." if counts["num_not_adapted"] else "",
        f"{plan['num_views']} views; depth-first searches stop after {plan['max_nodes']:,} nodes per view.",
        f"Seed {plan['seed']}.",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB{device};",
        f"{counts['num_workers']} tasks at a time, one thread each.",
        ", ".join(f"{name} {version}" for name, version in sampling["versions"].items()) + ".",
    ]
    return " ".join(filter(None, sentences)) + "\n"


def _sampling(sampling: Results) -> str:
    header = (
        "sampler",
        "selection",
        "pass@2",
        "found any",
        "candidates",
        "sampling s",
        "scoring s",
        "refused",
        "unanswered",
        "cut",
        "against vote",
    )
    lines = [
        (
            row["sampler"],
            row["selector"],
            _percent(row["pass_at_2"]),
            _percent(row["found_any"]),
            f"{row['candidates']:.1f}",
            f"{row['sample_s']:.1f}",
            f"{row['score_s']:.1f}" if row["score_s"] else "",
            _percent(row["refused"]),
            _percent(row["unanswered"]),
            _percent(row["cut"]),
            "" if row["selector"] == "vote" else f"+{row['gained']} -{row['lost']}",
        )
        for row in sampling["rows"]
    ]
    return _table(header, lines)


def _verdict(sampling: Results) -> str:
    """Product of experts against the vote, sampler by sampler, and what the default is."""
    shares = {(row["sampler"], row["selector"]): row for row in sampling["rows"]}
    samplers = dict.fromkeys(row["sampler"] for row in sampling["rows"])
    lines = []
    for sampler in samplers:
        vote, experts = shares[sampler, "vote"], shares[sampler, "product_of_experts"]
        lines.append(
            (
                sampler,
                _percent(vote["pass_at_2"]),
                _percent(experts["pass_at_2"]),
                f"{100 * (experts['pass_at_2'] - vote['pass_at_2']):+.1f} points",
                f"{experts['gained']} gained, {experts['lost']} lost",
            )
        )
    default = SolveSettings()
    return (
        _table(("sampler", "vote", "product of experts", "difference", "tasks"), lines)
        + f"\nThe default is `{default.selection.method}` on `{default.sampling.method}`. "
        f"One task more or less is {100 / sampling['figures']['num_tasks']:.1f} points.\n"
    )


def _grid_tokens(sampling: Results) -> str:
    measured = sampling["grid_tokens_only"]
    if not measured["num_tasks"]:
        return "No task was answered both ways.\n"
    lines = [
        (
            title,
            _percent(measured["pass_at_2"][name]),
            _percent(measured["refused"][name]),
            f"{measured['sample_s'][name]:.1f}",
        )
        for title, name in (("grid tokens only", "grid_tokens"), ("any token", "any_token"))
    ]
    return (
        _table(("allowed", "pass@2", "refused", "sampling s"), lines)
        + f"\nOf {measured['num_prompts']} prompts of {measured['num_tasks']} tasks, "
        f"{_percent(measured['equal_outputs'])} have the same completion either way.\n"
    )


def _backends(sampling: Results) -> str:
    measured = sampling["backends"]
    if measured is None:
        return "Measured where vLLM is installed.\n"
    lines = [
        (
            row["backend"],
            row["per_call"],
            f"{row['tokens_per_s']:,.0f}",
            f"{row['seconds']:.1f}",
            _percent(row["equal_outputs"]),
        )
        for row in measured["rows"]
    ]
    return (
        _table(("backend", "in one call", "tokens/s", "seconds", "same as torch"), lines)
        + f"\n{measured['num_tasks']} jobs with an adapter each, {measured['num_prompts']} prompts, greedy, "
        f"{measured['threads']} thread. vLLM's start with its first request, once per worker, is not in these seconds: "
        f"{measured['vllm_startup_s']:.0f} s.\n"
    )


def _calibration(calibration: Results) -> str:
    parts = [_reliability(_FAMILIES[name], checked) for name, checked in calibration["families"].items()]
    return f"Fitted on {calibration['fitted_on']}; {calibration['num_folds']} folds.\n\n" + "\n".join(parts)


def _reliability(family: str, checked: Results) -> str:
    if not checked["num_forecasts"]:
        return f"{family}: no attempts.\n"
    lines = [
        (
            f"{one['low']:.1f} to {one['high']:.1f}",
            str(one["count"]),
            _percent(one["mean_confidence"]),
            _percent(one["share_right"]),
        )
        for one in checked["bins"]
        if one["count"]
    ]
    return (
        f"{family}: {checked['num_forecasts']} attempts, expected calibration error "
        f"{checked['expected_calibration_error']:.3f}, Brier score {checked['brier_score']:.3f}.\n\n"
        + _table(("confidence", "attempts", "mean confidence", "right"), lines)
    )


_PARTS: Final[dict[str, Callable[[Results], str]]] = {
    "conditions": _conditions,
    "sampling": _sampling,
    "verdict": _verdict,
    "grid-tokens": _grid_tokens,
    "backends": _backends,
    "calibration": _calibration,
}


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, ["---"] * len(header), *lines))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    text = written(page.read_text(encoding="utf-8"), sampling=read(SAMPLING), calibration=read(CALIBRATION))
    page.write_text(text, encoding="utf-8")
