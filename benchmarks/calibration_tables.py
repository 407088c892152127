"""The part of docs/benchmarks.md that `benchmarks.calibration` finds."""

from typing import Final

from benchmarks.markdown import Part, Results, percent, table

_FAMILIES: Final = {
    "counting": "Methods that count (vote, hierarchical_vote)",
    "rescoring": "Methods that ask the model again (product_of_experts, probmul, view_count_logprob)",
}


def _calibration(calibration: Results) -> str:
    parts = [_reliability(_FAMILIES[name], checked) for name, checked in calibration["families"].items()]
    return f"Fitted on {calibration['fitted_on']}; {calibration['num_folds']} folds.\n\n" + "\n".join(parts)


def _reliability(family: str, checked: Results) -> str:
    if not checked["num_forecasts"]:
        return f"{family}: no attempts.\n"
    lines = [
        (
            f"{one['low']:.1f} to {one['high']:.1f}",
            str(one["count"]),
            percent(one["mean_confidence"]),
            percent(one["share_right"]),
        )
        for one in checked["bins"]
        if one["count"]
    ]
    return (
        f"{family}: {checked['num_forecasts']} attempts, expected calibration error "
        f"{checked['expected_calibration_error']:.3f}, Brier score {checked['brier_score']:.3f}.\n\n"
        + table(("confidence", "attempts", "mean confidence", "right"), lines)
    )


PARTS: Final[dict[str, Part]] = {"calibration": _calibration}
