"""Training sequences of several tasks, for an adapter that they share."""

import random
from collections.abc import Sequence
from functools import partial

from arc_engine.adaptation.examples import Example, ExampleSource
from arc_engine.errors import TaskTooLong
from arc_engine.prompts.writer import PromptWriter
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import Task
from arc_engine.tokens import Tokenizer


class TaskMixture:
    """An endless supply of training sequences, each of one task, drawn uniformly; with one task, of that one.

    Raises `TaskTooLong` if no task has a sequence of at most `max_tokens`, `EncoderUnsupported` and `PromptUnsupported`
    if the tokenizer cannot write the prompt.
    """

    left_out: tuple[int, ...]
    """Indices of the tasks that fit into no sequence; the others are trained on."""

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        settings: AdaptationSettings,
        prompt: PromptSettings,
        tokenizer: Tokenizer,
        max_tokens: int,
    ) -> None:
        if not tasks:
            raise ValueError("no task to adapt to")
        writer = PromptWriter.of(prompt, tokenizer)
        # A stream of its own: the sampler's views, often drawn with the same seed, are not the first training views.
        self._rng = random.Random(f"adaptation {settings.seed}")
        self._sources: list[ExampleSource] = []
        left_out: list[int] = []
        for index, task in enumerate(tasks):
            source = partial(ExampleSource, task, settings=settings, writer=writer, max_tokens=max_tokens)
            try:
                fitting = source(rng=random.Random(0)).draw()
            except TaskTooLong:
                if len(left_out) == len(tasks) - 1:  # there is none left
                    raise
                left_out.append(index)
            else:
                self._sources.append(source(rng=self._rng, stand_in=fitting))
        self.left_out = tuple(left_out)

    def draw(self) -> Example:
        """The next sequence."""
        if len(self._sources) == 1:
            return self._sources[0].draw()
        return self._rng.choice(self._sources).draw()
