"""The parts of docs/benchmarks.md that `benchmarks.sampling` measures."""

from typing import Final

from arc_engine.settings import SolveSettings
from benchmarks.markdown import Part, Results, hardware, packages, percent, table


def _conditions(sampling: Results) -> str:
    plan, counts = sampling["plan"], sampling["figures"]
    sentences = [
        f"`{sampling['command']}`, {sampling['date']}.",
        f"{counts['num_tasks']} tasks of `{plan['source']}` with the shortest prompts,",
        f"{counts['num_test_inputs']} test inputs.",
        f"{plan['base']} adapted to each for {plan['steps']} steps, {counts['adapt_s']:.0f} s a task.",
        f"{counts['num_not_adapted']} could not be adapted to." if counts["num_not_adapted"] else "",
        f"{plan['num_views']} views; depth-first searches stop after {plan['max_nodes']:,} nodes per view.",
        f"Seed {plan['seed']}.",
        f"{hardware(sampling['machine'])};",
        f"{counts['num_workers']} tasks at a time, one thread each.",
        f"{packages(sampling['versions'])}.",
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
            percent(row["pass_at_2"]),
            percent(row["found_any"]),
            f"{row['candidates']:.1f}",
            f"{row['sample_s']:.1f}",
            f"{row['score_s']:.1f}" if row["score_s"] else "",
            percent(row["refused"]),
            percent(row["unanswered"]),
            percent(row["cut"]),
            "" if row["selector"] == "vote" else f"+{row['gained']} -{row['lost']}",
        )
        for row in sampling["rows"]
    ]
    return table(header, lines)


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
                percent(vote["pass_at_2"]),
                percent(experts["pass_at_2"]),
                f"{100 * (experts['pass_at_2'] - vote['pass_at_2']):+.1f} points",
                f"{experts['gained']} gained, {experts['lost']} lost",
            )
        )
    default = SolveSettings()
    return (
        table(("sampler", "vote", "product of experts", "difference", "tasks"), lines)
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
            percent(measured["pass_at_2"][name]),
            percent(measured["refused"][name]),
            f"{measured['sample_s'][name]:.1f}",
        )
        for title, name in (("grid tokens only", "grid_tokens"), ("any token", "any_token"))
    ]
    return (
        table(("allowed", "pass@2", "refused", "sampling s"), lines)
        + f"\nOf {measured['num_prompts']} prompts of {measured['num_tasks']} tasks, "
        f"{percent(measured['equal_outputs'])} have the same completion either way.\n"
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
            percent(row["equal_outputs"]),
        )
        for row in measured["rows"]
    ]
    return (
        table(("backend", "in one call", "tokens/s", "seconds", "same as torch"), lines)
        + f"\n{measured['num_tasks']} jobs with an adapter each, {measured['num_prompts']} prompts, greedy, "
        f"{measured['threads']} thread. vLLM's start with its first request, once per worker, is not in these seconds: "
        f"{measured['vllm_startup_s']:.0f} s.\n"
    )


PARTS: Final[dict[str, Part]] = {
    "conditions": _conditions,
    "sampling": _sampling,
    "verdict": _verdict,
    "grid-tokens": _grid_tokens,
    "backends": _backends,
}
