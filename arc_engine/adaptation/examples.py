"""Leave-one-out training examples: what an adapter learns its task from.

One example is one sequence: the task's own demonstration pairs in a random order, under one random view of the task,
the last pair standing in for the test (MIT, 2024, https://arxiv.org/abs/2411.07279). Views are drawn anew from the
original task every time, never on top of one another, and `Task` has no test outputs that could slip in.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from arc_engine.errors import TaskTooLong
from arc_engine.grids import shape
from arc_engine.prompts.writer import PromptWriter
from arc_engine.settings import AdaptationSettings, LossOn, PromptSettings
from arc_engine.tasks import Pair, Task
from arc_engine.tokens import CONTEXT, TokenizedPrompt, Tokenizer
from arc_engine.views import ViewDistribution

# A row has fewer line ends than a column, so a task that does not fit under one view may fit under one that exchanges
# rows and columns, or the other way round. This many draws have seen both.
MAX_DRAWS: Final = 100
MIN_PAIRS: Final = 2  # one to learn from, one to predict

_Shapes: TypeAlias = frozenset[tuple[tuple[int, int], tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence: token ids, and whether each of them is a target of the loss."""

    ids: tuple[int, ...]
    is_target: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.ids)


def draw_example(task: Task, *, rng: random.Random, views: ViewDistribution) -> tuple[Pair, ...]:
    """The task's demonstration pairs under one random view of it; the last pair is the held-out one.

    Every pair is equally often the held-out one, also where `views` leaves the order of the others as it is.
    """
    view = views.draw(rng, num_pairs=len(task.train))
    order = list(view.pair_order)
    if not views.pair_order:
        order.append(order.pop(rng.randrange(len(order))))
    return tuple(view.apply_pair(task.train[i]) for i in order)


class ExampleSource:
    """An endless supply of training sequences of one task, none longer than `max_tokens`.

    Raises `EncoderUnsupported` or `PromptUnsupported` if the tokenizer cannot write the prompt.
    """

    def __init__(
        self,
        task: Task,
        *,
        settings: AdaptationSettings,
        prompt: PromptSettings,
        tokenizer: Tokenizer,
        max_tokens: int,
        rng: random.Random,
    ) -> None:
        self._task = task
        self._views = settings.augmentation.distribution()
        self._loss_on = settings.examples.loss_on
        self._writer = PromptWriter.of(prompt, tokenizer)
        self._max_tokens = max_tokens
        self._rng = rng
        self._too_long: set[_Shapes] = set()

    def draw(self) -> Example:
        """The next sequence.

        Raises `TaskTooLong` where not even the shortest demonstration with one other before it fits into `max_tokens`
        (a task with a single demonstration: that one alone).
        """
        for _ in range(MAX_DRAWS):
            pairs = draw_example(self._task, rng=self._rng, views=self._views)
            shapes = frozenset((shape(pair.input), shape(pair.output)) for pair in pairs)
            if shapes in self._too_long:
                continue
            tokens = self._fit(pairs)
            if tokens is not None:
                return Example(tokens.ids, targets(tokens, loss_on=self._loss_on))
            self._too_long.add(shapes)
        raise TaskTooLong(
            f"no two demonstrations of the task fit into a training sequence of {self._max_tokens} tokens"
        )

    def _fit(self, pairs: tuple[Pair, ...]) -> TokenizedPrompt | None:
        tokens = self._tokens(pairs)
        if len(tokens) <= self._max_tokens:
            return tokens
        num_tokens = {pair: len(self._tokens([pair])) for pair in pairs}
        for _ in pairs:
            tokens = self._tokens(self._shortened(pairs, num_tokens=num_tokens))
            if len(tokens) <= self._max_tokens:
                return tokens
            pairs = (pairs[-1], *pairs[:-1])  # this target is too long with any context: the next one
        return None

    def _shortened(self, pairs: tuple[Pair, ...], *, num_tokens: Mapping[Pair, int]) -> tuple[Pair, ...]:
        """Without the longest context pairs, as many of them as it takes, one left at least."""
        while len(pairs) > MIN_PAIRS and len(self._tokens(pairs)) > self._max_tokens:
            longest = max(range(len(pairs) - 1), key=lambda i: num_tokens[pairs[i]])
            pairs = pairs[:longest] + pairs[longest + 1 :]
        return pairs

    def _tokens(self, pairs: Sequence[Pair]) -> TokenizedPrompt:
        return self._writer.training(pairs)


def targets(tokens: TokenizedPrompt, *, loss_on: LossOn) -> tuple[bool, ...]:
    """Which tokens the loss counts: those of the last, of every but the first, or of all outputs.

    The only output of a task with a single demonstration is a target whatever `loss_on` says: there is nothing else to
    learn from.
    """
    last = max(tokens.answers)
    first_counted = {"test_output": last, "later_outputs": min(1, last), "all_outputs": 0}[loss_on]
    return tuple(answer != CONTEXT and answer >= first_counted for answer in tokens.answers)
