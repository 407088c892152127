"""What the tests of the training loop share: a small task, and an adaptation whose steps are kept."""

from collections.abc import Callable, Sequence
from typing import Any

from arc_engine.adaptation.adapt import Adaptation, adapt
from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.steps import AdaptationStep
from arc_engine.base_models.loading import LoadedBase
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import Task, parse_task

MIRROR: dict[str, Any] = {
    "train": [
        {"input": [[1, 2], [3, 4]], "output": [[2, 1], [4, 3]]},
        {"input": [[5, 0, 7]], "output": [[7, 0, 5]]},
        {"input": [[8], [9]], "output": [[8], [9]]},
    ],
    "test": [{"input": [[3, 2, 1]]}],
}
TASK, _ = parse_task(MIRROR)
SETTINGS = AdaptationSettings(lora_rank=4, lora_alpha=8, max_steps=6, batch_size=2, learning_rate=5e-3, seed=7)


def changed(**values: Any) -> AdaptationSettings:
    return AdaptationSettings.model_validate({**SETTINGS.model_dump(), **values})


def adapt_to(
    base: LoadedBase,
    *tasks: Task,
    settings: AdaptationSettings = SETTINGS,
    initial: Adapter | None = None,
    observe: Callable[[AdaptationStep], None] | None = None,
) -> tuple[Adaptation, list[AdaptationStep]]:
    """The adaptation to `tasks`, unset to `TASK`, and its steps."""
    steps: list[AdaptationStep] = []

    def record(step: AdaptationStep) -> None:
        steps.append(step)
        if observe is not None:
            observe(step)

    adaptation = adapt(
        base, tasks or (TASK,), settings=settings, prompt=PromptSettings(), observe=record, initial=initial
    )
    assert adaptation.num_steps == len(steps)
    return adaptation, steps


def losses(steps: Sequence[AdaptationStep]) -> list[float]:
    return [step.loss for step in steps]


def numbers(steps: Sequence[AdaptationStep]) -> list[tuple[float, float, int]]:
    """All of the steps that does not depend on the machine's speed."""
    return [(step.loss, step.grad_norm, step.tokens) for step in steps]
