"""The parts of docs/benchmarks.md that `benchmarks.overhead` measures."""

from typing import Final

from benchmarks.markdown import Part, Results, hardware, packages, percent, table

_TITLES: Final = {
    "compute_s": "training: forward, backward, update",
    "sample_s": "answering: the sampler's calls",
    "around_training_s": "around the training",
    "elsewhere_s": "elsewhere",
    "wall_s": "in all",
}
_HEADER: Final = ("of a job", "seconds", "share")


def _overhead(results: Results) -> str:
    plan, per_job = results["plan"], results["per_job"]
    wall_s: float = per_job["wall_s"]
    rest_s: float = wall_s - per_job["compute_s"] - per_job["sample_s"]
    lines = [(title, f"{per_job[name]:.3f}", percent(per_job[name] / wall_s)) for name, title in _TITLES.items()]
    return (
        f"`{results['command']}`, {results['date']}. {plan['jobs']} tasks of `{plan['source']}` with the shortest "
        f"prompts, {plan['steps']} steps each, sampler {plan['backend']}, one worker. {hardware(results['machine'])}; "
        f"{packages(results['versions'])}.\n\n"
        + table(_HEADER, lines)
        + f"\nNeither training nor answering: {rest_s:.3f} s a job, {percent(rest_s / wall_s)} of the worker's time. "
        f"{_startup(results['startup'])}\n"
    )


def _startup(first: Results) -> str:
    total_s = first["adapting_s"] + first["answering_s"]
    return f"The first job of a worker takes {total_s:.1f} s, of which start-up is {first['rest_s']:.1f} s."


PARTS: Final[dict[str, Part]] = {"overhead": _overhead}
