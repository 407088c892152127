"""From tasks to shares."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median, pstdev
from typing import Any, Final

from arc_engine.settings import SelectionSettings
from benchmarks.quality_task import ADAPTED, BASE, WAYS, Record
from benchmarks.sampling_plan import SELECTORS

DECIMALS: Final = 4
DEFAULT: Final = SelectionSettings().method


def rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row per dataset, way and selection method; `std` is that over seeds, where there are several."""
    return [
        _row(of_dataset, dataset=dataset, way=way, selector=selector)
        for dataset, of_dataset in _by(records, "dataset").items()
        for way in WAYS
        for selector in SELECTORS
    ]


def figures(records: Sequence[Record]) -> dict[str, Any]:
    """By dataset what the default selection method comes to."""
    return {dataset: _figures(of_dataset) for dataset, of_dataset in _by(records, "dataset").items()}


def _figures(records: Sequence[Record]) -> dict[str, Any]:
    found = {way: _row(records, dataset="", way=way, selector=DEFAULT) for way in WAYS}
    return {
        "num_tasks": len(_by(records, "task_id")),
        "num_seeds": len(_by(records, "seed")),
        "num_too_long": sum(record[BASE]["error"] == "task_too_long" for record in records),
        **{f"{name}_{way}": found[way][name] for name in ("pass_at_2", "pass_n", "accuracy") for way in WAYS},
        "median_task_s": round(median(record[ADAPTED]["seconds"] for record in records), 1),
    }


def _row(records: Sequence[Record], *, dataset: str, way: str, selector: str) -> dict[str, Any]:
    by_seed = [fmean(one[way]["pass_at_2"][selector] for one in found) for found in _by(records, "seed").values()]
    return {
        "dataset": dataset,
        "way": way,
        "selector": selector,
        "pass_at_2": round(fmean(by_seed), DECIMALS),
        "std": round(pstdev(by_seed), DECIMALS) if len(by_seed) > 1 else None,
        "pass_n": round(fmean(record[way]["pass_n"] for record in records), DECIMALS),
        "accuracy": round(fmean(record[way]["accuracy"] for record in records), DECIMALS),
        "num_failed": sum(record[way]["error"] is not None for record in records),
        "median_s": round(median(record[way]["seconds"] for record in records), 1),
    }


def _by(records: Sequence[Record], name: str) -> Mapping[Any, list[Record]]:
    found: dict[Any, list[Record]] = {}
    for record in records:
        found.setdefault(record[name], []).append(record)
    return found
