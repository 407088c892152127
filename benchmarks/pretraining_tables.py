"""The parts of docs/benchmarks.md that `benchmarks.pretraining` measures."""

from statistics import fmean
from typing import Final

from benchmarks.markdown import Part, Results, hardware, packages, percent, table


def _conditions(measured: Results) -> str:
    processors = sorted({row["cpu"] for row in measured["rows"]})
    sentences = [
        f"`{measured['command']}`, {measured['date']}.",
        f"{60 * measured['plan']['hours']:.0f} minutes a variant, on one core each.",
        f"{hardware(measured['machine'])}; trained on {', '.join(processors)}.",
        f"{packages(measured['versions'])}.",
    ]
    return " ".join(sentences) + "\n"


def _variants(measured: Results) -> str:
    header = ("variant", "parameters", "steps", "tokens", "fresh tasks", "unseen families", "held-out ARC tasks")
    lines = [
        (
            row["variant"],
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['steps']:,}",
            f"{row['tokens'] / 1e6:.1f} M",
            *(percent(row[name]) for name in ("synthetic_exact", "unseen_families_exact", "arc_held_out_exact")),
        )
        for row in measured["rows"]
    ]
    return table(header, lines)


def _one_skill_conditions(measured: Results) -> str:
    seeds = len({row["seed"] for row in measured["rows"]})
    sentences = [
        f"`{measured['command']}`, {measured['date']}.",
        f"{measured['tokens'] / 1e6:.2g} million tokens a run, {seeds} seeds a way, means of them; on one core each.",
        f"{hardware(measured['machine'])}; {packages(measured['versions'])}.",
    ]
    return " ".join(sentences) + "\n"


def _one_skill(measured: Results) -> str:
    ways = {row["way"]: [other for other in measured["rows"] if other["way"] == row["way"]] for row in measured["rows"]}
    eighths = range(1, 8, 2)
    ends = [f"loss to {measured['tokens'] * (eighth + 1) / 8e6:.2g} M" for eighth in eighths]
    lines = [
        (
            way,
            *(f"{fmean(row['losses'][eighth] for row in rows):.2f}" for eighth in eighths),
            percent(fmean(row["exact"] for row in rows)),
        )
        for way, rows in ways.items()
    ]
    return table(("way", *ends, "exact"), lines)


ONE_SKILL_PARTS: Final[dict[str, Part]] = {"one-skill-conditions": _one_skill_conditions, "one-skill": _one_skill}
PARTS: Final[dict[str, Part]] = {"pretraining-conditions": _conditions, "pretraining": _variants}
