"""Adapting a base model to tasks."""

from collections.abc import Sequence

from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.pack import train_together
from arc_engine.adaptation.run import Adaptation, Run
from arc_engine.adaptation.steps import StepObserver
from arc_engine.base_models.loading import LoadedBase
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import Task

__all__ = ["Adaptation", "adapt"]


def adapt(
    base: LoadedBase,
    tasks: Sequence[Task],
    *,
    settings: AdaptationSettings,
    prompt: PromptSettings,
    observe: StepObserver,
    initial: Adapter | None = None,
) -> Adaptation:
    """Trains one LoRA adapter on the demonstrations of `tasks`: a new one, or `initial` further.

    `observe` is called after every step, and stops the training by raising. However this function ends, `base` is then
    what it was before, and so is the global random state. The same seed gives the same losses bit for bit on the same
    CPU with the same number of threads, unless a time budget ends one run before the other.

    Raises `EncoderUnsupported` or `PromptUnsupported` if the base cannot write the prompt, `TaskTooLong` if no training
    sequence of any task fits into `settings.max_seq_len` and the model's positions, `LoraUnsupported` if the settings
    ask for layers that the base does not have or a rank that they cannot have, `BaseModelError` if `initial` is not for
    the base, `Diverged` at the first step whose loss or gradient is out of bounds, `OutOfMemory` if a single sequence
    is too much for the device, and whatever `observe` raises.
    """
    alone = _Alone(Run(base, tasks, settings=settings, prompt=prompt, observe=observe, initial=initial))
    waiting = [alone]
    train_together(base, lambda: waiting.pop() if waiting else None)
    return alone.result()


class _Alone:
    """A trainee that nobody else is with."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._adaptation: Adaptation | None = None
        self._error: Exception | None = None

    def done(self, adaptation: Adaptation) -> None:
        self._adaptation = adaptation

    def failed(self, error: Exception) -> None:
        self._error = error

    def result(self) -> Adaptation:
        if self._adaptation is None:
            raise self._error or RuntimeError("the training has not ended")
        return self._adaptation
