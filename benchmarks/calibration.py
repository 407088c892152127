"""Fits the confidences to what the sampling benchmark measured, and checks them on tasks that they were not fitted to.

    python -m benchmarks.calibration

Fitted to all tasks. The reliability is that of cross-validation: the tasks are dealt into folds by a hash of their ids,
and the confidences in a fold are those of coefficients fitted to the others. Attempts of all samplers count, with the
methods of a family together. Writes `arc_engine/selection/calibration.json`, which the product reads, and
`benchmarks/results/calibration.json` for docs/benchmarks.md.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, get_args

from arc_engine.evaluation.calibration import Forecast, Judged, fit, reliability
from arc_engine.selection import confidence
from arc_engine.selection.confidence import Calibration, Coefficients, Family, Features, family_of
from benchmarks.results import CALIBRATION, SAMPLING, read, write
from benchmarks.sampling_plan import SAMPLERS, SELECTORS

PACKAGED: Final = Path(confidence.__file__).parent / "calibration.json"
NUM_BINS: Final = 10
NUM_FOLDS: Final = 5
FAMILIES: Final[tuple[Family, ...]] = get_args(Family)


def main() -> None:
    """Fits, checks and writes."""
    measured = read(SAMPLING)
    if measured is None:
        sys.exit(f"{SAMPLING} is missing: run `make bench-sampling` first")
    tasks = measured["tasks"]
    where = f"{measured['plan']['base']}, {len(tasks)} tasks of {measured['plan']['source']}, {measured['date']}"
    PACKAGED.write_text(calibrate(tasks, fitted_on=where).to_json(), encoding="utf-8")
    checked = {family: check(tasks, family=family) for family in FAMILIES}
    write({"fitted_on": where, "num_tasks": len(tasks), "num_folds": NUM_FOLDS, "families": checked}, CALIBRATION)
    print(f"written: {PACKAGED}, {CALIBRATION}")


def folds(tasks: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The tasks, dealt out; a task is always in the same fold, whatever the others are."""
    dealt: list[list[dict[str, Any]]] = [[] for _ in range(NUM_FOLDS)]
    for task in tasks:
        dealt[hashlib.sha256(task["task_id"].encode()).digest()[0] % NUM_FOLDS].append(task)
    return dealt


def calibrate(tasks: Sequence[dict[str, Any]], *, fitted_on: str) -> Calibration:
    """Coefficients for both families of methods."""
    return Calibration(
        fitted_on, counting=_fitted(tasks, family="counting"), rescoring=_fitted(tasks, family="rescoring")
    )


def check(tasks: Sequence[dict[str, Any]], *, family: Family) -> dict[str, Any]:
    """How reliable confidences are in tasks that their coefficients were not fitted to, ready for JSON."""
    dealt = folds(tasks)
    forecasts = [
        forecast
        for number, held_out in enumerate(dealt)
        for forecast in _forecasts(
            held_out, [task for other in dealt[:number] + dealt[number + 1 :] for task in other], family=family
        )
    ]
    return asdict(reliability(forecasts, num_bins=NUM_BINS))


def _forecasts(
    held_out: Sequence[dict[str, Any]], fitted_to: Sequence[dict[str, Any]], *, family: Family
) -> Iterator[Forecast]:
    coefficients = _fitted(fitted_to, family=family)
    for rows in attempts(held_out, family=family):
        for sure, row in zip(coefficients.confidences([row.features for row in rows]), rows, strict=False):
            yield Forecast(sure, right=row.right)


def _fitted(tasks: Sequence[dict[str, Any]], *, family: Family) -> Coefficients:
    return fit([row for rows in attempts(tasks, family=family) for row in rows])


def attempts(tasks: Sequence[dict[str, Any]], *, family: Family) -> Iterator[list[Judged]]:
    """The one or two attempts at every test input, by every sampler and every method of the family."""
    for task in tasks:
        answered = [task["samplers"][name] for name in SAMPLERS] if task["error"] is None else []
        for sampler in (one for one in answered if one["error"] is None):
            for selector in (one for one in SELECTORS if family_of(one) == family):
                for tried in sampler["selectors"][selector]["attempts"]:
                    yield [_judged(attempt) for attempt in tried]


def _judged(attempt: Sequence[float]) -> Judged:
    share, log_probability, lead, first, right = attempt[:5]  # in the order of `ATTEMPT`
    return Judged(Features(share, log_probability, lead, first=bool(first)), right=bool(right))


if __name__ == "__main__":
    main()
