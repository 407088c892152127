"""The parts of docs/benchmarks.md that `benchmarks.pipeline` measures."""

from typing import Final

from benchmarks.markdown import Part, Results, hardware, packages, table
from benchmarks.pipeline_summary import OURS, PEERS

_SCRIPT_STAGES: Final = {
    "process": "start, imports, exit",
    "load": "model load",
    "training": "training",
    "merge": "merge",
    "engine": "vLLM start",
    "generation": "generation",
    "vote": "vote",
}
_SERVICE_STAGES: Final = {
    "start": "stack start",
    "queue": "until taken",
    "training": "until all are trained",
    "answering": "until all are answered",
    "download": "download",
}
_WORK: Final = {"adapt_s": "training", "sample_s": "sampling"}


def _conditions(pipeline: Results) -> str:
    plan = pipeline["plan"]
    sentences = [
        f"`{pipeline['command']}`, {pipeline['date']}.",
        f"{len(plan['tasks'])} tasks of `{plan['source']}` with the shortest prompts;",
        f"{plan['base']}, {plan['steps']} steps and {plan['num_views']} views a task, greedy, vote.",
        f"Seed {plan['seed']}.",
        f"Every way {plan['num_rounds']} times, taking turns; seconds are means.",
        f"{hardware(pipeline['machine'])}; ours with {plan['num_workers']} workers.",
        f"{packages(pipeline['versions'])}.",
    ]
    return " ".join(sentences) + "\n"


def _ways(pipeline: Results) -> str:
    header = ("way", "seconds", "seconds a task", *(f"speed against {other}" for other in PEERS), "tasks right")
    lines = [
        (
            row["way"],
            f"{row['seconds']:.1f}",
            f"{row['seconds_per_task']:.1f}",
            *(f"{row['times_faster'][other]:.2f}x" for other in PEERS),
            f"{row['num_right']:g}",
        )
        for row in pipeline["rows"]
    ]
    return table(header, lines)


def _done(pipeline: Results) -> str:
    header = ("way", "training steps", "training tokens", "mean last loss", "completions", "generated tokens")
    lines = [
        (
            row["way"],
            f"{row['counts']['steps']:,g}",
            f"{row['counts']['train_tokens']:,.0f}",
            f"{row['last_loss']:.3f}",
            f"{row['counts']['completions']:,g}",
            f"{row['counts']['sampled_tokens']:,.0f}",
        )
        for row in pipeline["rows"]
    ]
    return table(header, lines)


def _scripts(pipeline: Results) -> str:
    return _stages(pipeline, ways=PEERS, stages=_SCRIPT_STAGES)


def _service(pipeline: Results) -> str:
    by_way = {row["way"]: row for row in pipeline["rows"]}
    workers = pipeline["plan"]["num_workers"]
    sentences = [
        f"{way}: of {workers} x {by_way[way]['seconds']:.1f} worker seconds, "
        + ", ".join(f"{by_way[way]['work'][name]:.1f} were {title}" for name, title in _WORK.items())
        + ".\n"
        for way in OURS
    ]
    return _stages(pipeline, ways=OURS, stages=_SERVICE_STAGES) + "\n" + "".join(sentences)


def _stages(pipeline: Results, *, ways: tuple[str, ...], stages: dict[str, str]) -> str:
    lines = [
        (row["way"], *(_seconds(row["stages"].get(stage)) for stage in stages), f"{row['seconds']:.1f}")
        for row in pipeline["rows"]
        if row["way"] in ways
    ]
    return table(("way", *stages.values(), "all"), lines)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


PARTS: Final[dict[str, Part]] = {
    "pipeline-conditions": _conditions,
    "pipeline": _ways,
    "pipeline-done": _done,
    "pipeline-scripts": _scripts,
    "pipeline-service": _service,
}
