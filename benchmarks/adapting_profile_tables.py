"""The part of docs/benchmarks.md that `benchmarks.adapting_profile` measures."""

from typing import Final

from benchmarks.markdown import Part, Results, hardware, packages, percent, table

_HEADER: Final = (
    "tokens per step",
    "ms per step",
    "base's matrix products",
    "adapter's",
    "attention",
    "all else",
    "base's, GFLOP/s",
    "ceiling, GFLOP/s",
)


def _profile(results: Results) -> str:
    plan = results["plan"]
    lines = [
        (
            f"{row['tokens_per_step']:,}",
            f"{row['step_ms']:.0f}",
            *(percent(row["ms"][kind] / row["step_ms"]) for kind in ("base", "adapter", "attention", "other")),
            f"{row['base_gflops']:.0f}",
            f"{row['ceiling_gflops']:.0f}",
        )
        for row in results["rows"]
    ]
    return (
        f"`{results['command']}`, {results['date']}. {plan['base']} on tasks of `{plan['source']}`, "
        f"{plan['threads']} thread. {hardware(results['machine'])}; {packages(results['versions'])}.\n\n"
        + table(_HEADER, lines)
    )


PARTS: Final[dict[str, Part]] = {"adapting-profile": _profile}
