"""From what was measured round by round to a row per way."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from benchmarks.pipeline_record import DECIMALS, Record

SCRIPTS: Final = "scripts"
"""A process per stage and task, vLLM as its documentation has it."""
TUNED: Final = "scripts, tuned"
"""The same with vLLM's start as fast as ours, and as many tasks at a time as we have workers."""
TOGETHER: Final = "scripts, together"
"""A process per stage for all tasks, with adapters in place of merged models, tuned too."""
COLD: Final = "arcadapt, cold"
"""From the start of `arcadapt up`."""
WARM: Final = "arcadapt, warm"
"""On a stack that runs."""
PEERS: Final = (SCRIPTS, TUNED, TOGETHER)
OURS: Final = (COLD, WARM)
WAYS: Final = (*PEERS, *OURS)


def rows(rounds: Sequence[Mapping[str, Record]]) -> list[dict[str, Any]]:
    """A row per way, seconds and stages being means over the rounds.

    `times_faster` is against each of the script ways. Counts are means too: rounds are to agree in them, but need not.
    """
    return [_row(rounds, way=way, num_tasks=_num_tasks(rounds)) for way in WAYS]


def _row(rounds: Sequence[Mapping[str, Record]], *, way: str, num_tasks: int) -> dict[str, Any]:
    measured = [one[way] for one in rounds]
    seconds = _seconds(rounds, way)
    return {
        "way": way,
        "seconds": round(seconds, DECIMALS),
        "seconds_by_round": [record["seconds"] for record in measured],
        "seconds_per_task": round(seconds / num_tasks, DECIMALS),
        "times_faster": {other: round(_seconds(rounds, other) / seconds, 2) for other in PEERS},
        "stages": _means([record["stages"] for record in measured]),
        "work": _means([record["work"] for record in measured]),
        "counts": _means([record["counts"] for record in measured]),
        "last_loss": round(fmean(loss for record in measured for loss in record["last_losses"].values()), DECIMALS),
        "num_right": round(fmean(len(record["right"]) for record in measured), DECIMALS),
    }


def _seconds(rounds: Sequence[Mapping[str, Record]], way: str) -> float:
    return fmean(one[way]["seconds"] for one in rounds)


def _num_tasks(rounds: Sequence[Mapping[str, Record]]) -> int:
    return len(rounds[0][SCRIPTS]["last_losses"])


def _means(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(fmean(one[name] for one in values), DECIMALS) for name in values[0]}
