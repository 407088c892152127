"""The learning rate of every step, by steps or by wall time."""

import math

from arc_engine.base_finetuning.recipe import Optimisation


def learning_rate(settings: Optimisation, *, step: int, progress: float) -> float:
    """The rate of `step`, counted from 0, when the share `progress` of the budget is used.

    `linear` and `cosine` fall over the whole budget and reach 0 at its end; the warm-up cuts off their beginning. So
    they need not know how many steps a budget of hours will have.
    """
    if settings.lr_scheduler == "constant":
        return settings.learning_rate
    warm = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    fall = {
        "linear": 1 - progress,
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "constant_with_warmup": 1.0,
    }[settings.lr_scheduler]
    return settings.learning_rate * warm * fall
