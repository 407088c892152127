"""Rows of settings that shape the adapter and the base model that it is trained in."""

from typing import Final

import pytest

from tests.settings.facets import OTHER_TRAINING, OTHER_UPDATES
from tests.settings.row import Row


def with_init(init: str) -> Row:
    """An initialisation that takes B A out of the base: twice the rank in the end, the base model in the beginning."""
    return Row(
        "adaptation.init",
        init,
        {"initial_weights", "shapes", "config.r", "config.lora_alpha", "sampling_rank", "first_grad_norm"}
        | OTHER_UPDATES,
        may={"first_loss"},
        check=lambda before, after: (
            after["config.r"] == after["sampling_rank"] == 4
            and after["config.init_lora_weights"] is True
            and after["first_loss"] == pytest.approx(before["first_loss"])
        ),
    )


LORA: Final = (
    Row(
        "adaptation.lora_rank",
        4,
        {"initial_weights", "shapes", "config.r", "sampling_rank", "first_grad_norm"} | OTHER_UPDATES,
        check=lambda before, after: after["config.r"] == after["sampling_rank"] == 4,
    ),
    Row(
        "adaptation.lora_alpha",
        8.0,
        {"config.lora_alpha", "first_grad_norm"} | OTHER_UPDATES,
        check=lambda before, after: after["first_grad_norm"] == pytest.approx(2 * before["first_grad_norm"]),
    ),
    Row(
        "adaptation.use_rslora",
        True,
        {"config.use_rslora", "first_grad_norm"} | OTHER_UPDATES,
        check=lambda before, after: after["first_grad_norm"] == pytest.approx(2**0.5 * before["first_grad_norm"]),
    ),
    Row("adaptation.lora_dropout", 0.5, {"config.lora_dropout", "first_grad_norm"} | OTHER_UPDATES),
    Row(
        "adaptation.target_modules",
        ["q_proj", "v_proj"],
        {"config.target_modules", "initial_weights", "shapes", "first_grad_norm"} | OTHER_UPDATES,
        check=lambda before, after: (
            len(after["shapes"]) == 2 * 2 * 2 and after["config.target_modules"] == ["q_proj", "v_proj"]
        ),
    ),
    Row("adaptation.init", "gaussian", {"initial_weights", "first_grad_norm"} | OTHER_UPDATES),
    Row(
        "adaptation.init",
        "orthogonal",
        {"initial_weights", "first_grad_norm"} | OTHER_UPDATES,
        may={"first_loss"},
        check=lambda before, after: after["first_loss"] == pytest.approx(before["first_loss"]),
    ),
    with_init("pissa"),
    with_init("pissa_niter_4"),
    with_init("olora"),
    # PEFT draws new matrices in float32, rounds them to the base's precision, and makes float32 of that.
    Row("adaptation.precision", "bfloat16", {"base_dtype", "initial_weights"} | OTHER_TRAINING),
    Row("adaptation.precision", "float16", {"base_dtype", "initial_weights"} | OTHER_TRAINING),
    Row("adaptation.precision", "nf4", {"base_dtype"} | OTHER_TRAINING),
)
