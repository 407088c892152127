"""Fits the confidences to what the sampling benchmark measured, and checks them on tasks that they were not fitted to.

    python -m benchmarks.calibration

Half of the tasks, by a hash of their ids, are fitted to; the reliability is that of the other half. Attempts of all
samplers count, with the methods of a family together. Writes `arc_engine/selection/calibration.json`, which the product
reads, and `benchmarks/results/calibration.json` for docs/benchmarks.md.
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
FAMILIES: Final[tuple[Family, ...]] = get_args(Family)


def main() -> None:
    """Fits, checks and writes."""
    measured = read(SAMPLING)
    if measured is None:
        sys.exit(f"{SAMPLING} is missing: run `make bench-sampling` first")
    fitted_to, held_out = halves(measured["tasks"])
    where = f"{measured['plan']['base']}, {len(fitted_to)} tasks of {measured['plan']['source']}, {measured['date']}"
    fitted = calibrate(fitted_to, fitted_on=where)
    PACKAGED.write_text(fitted.to_json(), encoding="utf-8")
    checked = {family: check(held_out, family=family, coefficients=fitted.of(family)) for family in FAMILIES}
    write({"fitted_on": where, "num_tasks_held_out": len(held_out), "families": checked}, CALIBRATION)
    print(f"written: {PACKAGED}, {CALIBRATION}")


def halves(tasks: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The tasks to fit to and those held out; a task is always on the same side, whatever the others are."""
    sides: tuple[list[dict[str, Any]], list[dict[str, Any]]] = [], []
    for task in tasks:
        sides[hashlib.sha256(task["task_id"].encode()).digest()[0] & 1].append(task)
    return sides


def calibrate(tasks: Sequence[dict[str, Any]], *, fitted_on: str) -> Calibration:
    """Coefficients for both families of methods."""
    counting, rescoring = (
        fit([row for rows in attempts(tasks, family=family) for row in rows]) for family in ("counting", "rescoring")
    )
    return Calibration(fitted_on, counting=counting, rescoring=rescoring)


def check(tasks: Sequence[dict[str, Any]], *, family: Family, coefficients: Coefficients) -> dict[str, Any]:
    """How reliable the confidences in these tasks' attempts are, ready for JSON."""
    forecasts = [
        Forecast(sure, right=row.right)
        for rows in attempts(tasks, family=family)
        for sure, row in zip(coefficients.confidences([row.features for row in rows]), rows, strict=False)
    ]
    return asdict(reliability(forecasts, num_bins=NUM_BINS))


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
