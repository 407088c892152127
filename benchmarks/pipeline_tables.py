"""The parts of docs/benchmarks.md that `benchmarks.pipeline` measures."""

from typing import Final

from benchmarks.markdown import Part, Results, hardware, packages, table
from benchmarks.pipeline_summary import OURS, PEERS, TUNED

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
_WORK: Final = {"adapt_s": "training", "sample_s": "sampling or waiting for vLLM to start"}


def _conditions(pipeline: Results) -> str:
    plan = pipeline["plan"]
    sentences = [
        f"`{pipeline['command']}`, {pipeline['date']}.",
        f"{len(plan['tasks'])} tasks of `{plan['source']}` with the shortest prompts;",
        f"{plan['base']}, {plan['steps']} steps and {plan['num_views']} views a task, greedy, vote.",
        f"Seed {plan['seed']}.",
        f"Rounds in which the ways took turns: {plan['num_rounds']}; seconds are means.",
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
    """What ran side by side is in `work`, and its vote, at the end, in the stages."""
    lines = [
        (
            row["way"],
            *(_seconds(row["work"].get(stage, 0.0) + row["stages"].get(stage, 0.0)) for stage in _SCRIPT_STAGES),
            f"{row['seconds']:.1f}",
        )
        for row in pipeline["rows"]
        if row["way"] in PEERS
    ]
    workers = pipeline["plan"]["num_workers"]
    return (
        table(("way", *_SCRIPT_STAGES.values(), "all"), lines)
        + f"\nOf {TUNED} the processes of {workers} tasks ran side by side: their seconds add up to more than all.\n"
    )


def _service(pipeline: Results) -> str:
    by_way = {row["way"]: row for row in pipeline["rows"]}
    workers = pipeline["plan"]["num_workers"]
    sentences = [
        f"{way}: of {workers} x {by_way[way]['seconds']:.1f} worker seconds, "
        + ", ".join(f"{by_way[way]['work'][name]:.1f} were {title}" for name, title in _WORK.items())
        + ".\n"
        for way in OURS
    ]
    lines = [
        (way, *(f"{by_way[way]['stages'][stage]:.1f}" for stage in _SERVICE_STAGES), f"{by_way[way]['seconds']:.1f}")
        for way in OURS
    ]
    return table(("way", *_SERVICE_STAGES.values(), "all"), lines) + "\n" + "".join(sentences)


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value else ""


PARTS: Final[dict[str, Part]] = {
    "pipeline-conditions": _conditions,
    "pipeline": _ways,
    "pipeline-done": _done,
    "pipeline-scripts": _scripts,
    "pipeline-service": _service,
}
