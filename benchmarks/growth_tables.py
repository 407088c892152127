"""The parts of docs/benchmarks.md that `benchmarks.growth` measures."""

from typing import Final

from benchmarks.markdown import Part, Results, hardware, packages, table

REFERENCE: Final = 100
"""The queue that others are compared with."""


def _conditions(growth: Results) -> str:
    plan, rows = growth["plan"], growth["rows"]
    sentences = [
        f"`{growth['command']}`, {growth['date']}, {growth['seconds']:,} s.",
        f"{hardware(growth['machine'])}; {packages(growth['versions'])}.",
        f"Queue: {plan['steps']} steps a job, requests of at most {plan['request_tasks']} tasks.",
        f"Reads: {', '.join(f'{count:,} rows in {name}' for name, count in rows.items())}.",
    ]
    return " ".join(sentences) + "\n"


def _queue(growth: Results) -> str:
    header = (
        "waiting",
        "over",
        "submission ms",
        "life ms",
        "together ms",
        f"against {REFERENCE}",
        "database ms",
        f"against {REFERENCE}",
        "unheard ms",
        "company ms",
    )
    reference = next((row for row in growth["queue"] if (row["queued"], row["finished"]) == (REFERENCE, 0)), None)
    lines = [
        (
            f"{row['queued']:,}",
            f"{row['finished']:,}",
            f"{row['stages']['submission']:.1f}",
            f"{row['ms'] - row['stages']['submission']:.1f}",
            f"{row['ms']:.1f}",
            _ratio(row, reference, "ms"),
            f"{row['database_ms']:.1f}",
            _ratio(row, reference, "database_ms"),
            f"{row['unheard_ms']:.1f}",
            f"{row['company_ms']:.1f}",
        )
        for row in growth["queue"]
    ]
    return table(header, lines)


def _ratio(row: Results, reference: Results | None, name: str) -> str:
    return "" if reference is None else f"{row[name] / reference[name]:.2f}x"


def _stages(growth: Results) -> str:
    """Where the time of a job goes, at every length."""
    rows = growth["queue"]
    names = dict.fromkeys(name for row in rows for name in row["stages"])
    lines = [(name, *(f"{row['stages'][name]:.1f}" for row in rows)) for name in names]
    return table(("ms a job", *(f"{row['queued']:,} of {row['queued'] + row['finished']:,}" for row in rows)), lines)


def _stack(growth: Results) -> str:
    lines = [
        (f"{row['jobs']:,}", f"{row['ms']:.0f}", f"{row['adapting_ms']:.0f}", f"{row['sampling_ms']:.0f}")
        for row in growth["stack"]
    ]
    return table(("jobs", "ms a job", "adapting", "sampling"), lines)


def _reads(growth: Results, *, part: str, header: str) -> str:
    lines = [
        (
            row["what"].replace("|", "\\|"),
            f"{row['ms_median']:.1f}",
            f"{row['ms_p95']:.1f}",
            f"{row['sql_ms_median']:.1f}",
            f"{row['sql_ms_p95']:.1f}",
            str(row["statements"]),
        )
        for row in growth[part]
    ]
    return table((header, "ms", "95%", "slowest statement ms", "95%", "statements"), lines)


PARTS: Final[dict[str, Part]] = {
    "growth-conditions": _conditions,
    "growth-queue": _queue,
    "growth-stages": _stages,
    "growth-stack": _stack,
    "growth-routes": lambda growth: _reads(growth, part="routes", header="route"),
    "growth-panels": lambda growth: _reads(growth, part="panels", header="query"),
}
