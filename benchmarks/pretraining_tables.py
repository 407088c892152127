"""The parts of docs/benchmarks.md that `benchmarks.pretraining` measures."""

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


PARTS: Final[dict[str, Part]] = {"pretraining-conditions": _conditions, "pretraining": _variants}
