"""What a job's record says once it is over, in the terms that evaluations and experiments report."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from arc_engine.evaluation.metrics import Predictions
from arc_engine.grids import Grid

Rows: TypeAlias = Sequence[Sequence[int]]


def predictions(
    votes: Mapping[Grid, int],
    *,
    attempts: tuple[Rows | None, Rows | None],
    settings: Mapping[str, Any],
    num_completions: int | None = None,
) -> Predictions:
    """What a job predicted for one test input; `votes` counts its candidates, best-ranked first.

    Jobs of earlier versions do not say their `num_completions`: it is what their settings asked for.
    """
    if num_completions is None:
        sampling = settings["sampling"]
        num_completions = sampling["num_views"] * sampling["samples_per_view"]
    first, second = (None if rows is None else tuple(map(tuple, rows)) for rows in attempts)
    return Predictions(votes, num_predictions=num_completions, attempts=(first, second))


def adapting_seconds(usage: Mapping[str, Any], *, num_sharing: int) -> float | None:
    """Its own adapting, and its share of what `num_sharing` jobs trained in common; None where it did not adapt."""
    if "adapt_s" not in usage:
        return None
    return float(usage["adapt_s"]) + float(usage.get("common", {}).get("adapt_s", 0.0)) / num_sharing


def sampling_seconds(usage: Mapping[str, Any]) -> float | None:
    """Seconds of answering; None where it did not answer."""
    return float(usage["sample_s"]) if "sample_s" in usage else None
