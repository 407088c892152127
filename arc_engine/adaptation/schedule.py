"""The learning rate of every step."""

import math

from arc_engine.settings import SchedulerName


def learning_rate_factor(step: int, *, scheduler: SchedulerName, max_steps: int, warmup_ratio: float) -> float:
    """What the peak learning rate is multiplied by in `step`, counted from 1.

    The warm-up lasts `ceil(warmup_ratio * max_steps)` steps and rises linearly to 1, which the step after it has. From
    there on the values are those of `transformers.get_scheduler`; `linear` and `cosine` would reach 0 in the step after
    the last one. Unlike there, the warm-up starts above 0: no step is taken in vain, and one step alone does learn.
    `constant` has no warm-up, also as there.
    """
    if scheduler == "constant":
        return 1.0
    num_warmup_steps = math.ceil(warmup_ratio * max_steps)
    if step <= num_warmup_steps:
        return step / (num_warmup_steps + 1)
    if scheduler == "constant_with_warmup":
        return 1.0
    progress = (step - 1 - num_warmup_steps) / (max_steps - num_warmup_steps)
    return 1 - progress if scheduler == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
