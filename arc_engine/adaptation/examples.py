"""Leave-one-out training examples: what an adapter learns its task from.

One example is one sequence: the task's own demonstration pairs in a random order, under one random view of the task,
the last pair, the held-out one, standing in for the test (MIT, 2024, https://arxiv.org/abs/2411.07279). Views are drawn
anew from the original task every time, never on top of one another, and `Task` has no test outputs that could slip in.
"""

import random
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

from arc_engine.adaptation.limit import TokenLimit
from arc_engine.errors import TaskTooLong
from arc_engine.grids import shape
from arc_engine.prompts.writer import PromptWriter
from arc_engine.settings import AdaptationSettings, LossOn
from arc_engine.tasks import Pair, Task
from arc_engine.tokens import CONTEXT, TokenizedPrompt
from arc_engine.views import ViewDistribution

# A row has fewer line ends than a column, so a task that does not fit under one view may fit under one that exchanges
# rows and columns, or the other way round. This many draws have seen both.
MAX_DRAWS: Final = 100

_PairShape: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
_Shapes: TypeAlias = tuple[_PairShape, frozenset[_PairShape]]
"""Of the held-out pair, and of all pairs: all that decides whether a sequence fits, unless cells matter too."""


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence: token ids, and whether each of them is a target of the loss."""

    ids: tuple[int, ...]
    is_target: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.ids)


def draw_example(
    task: Task, *, rng: random.Random, views: ViewDistribution, held_out: int | None = None
) -> tuple[Pair, ...]:
    """The task's demonstration pairs under one random view of it; the last one is that with index `held_out`.

    Unset, every pair is equally often the held-out one, also where `views` leaves the order of the others as it is.
    """
    view = views.draw(rng, num_pairs=len(task.train))
    order = list(view.pair_order)
    if held_out is not None:
        order.append(order.pop(order.index(held_out)))
    elif not views.pair_order:
        order.append(order.pop(rng.randrange(len(order))))
    return tuple(view.apply_pair(task.train[i]) for i in order)


class ExampleSource:
    """An endless supply of training sequences of one task, none longer than `max_tokens`."""

    def __init__(
        self,
        task: Task,
        *,
        settings: AdaptationSettings,
        writer: PromptWriter,
        max_tokens: int,
        rng: random.Random,
        stand_in: Example | None = None,
    ) -> None:
        """`stand_in` is a sequence of the task that is known to fit, for when a run of bad luck finds no other."""
        self._task = task
        self._views = settings.augmentation.distribution()
        self._settings = settings.examples
        self._writer = writer
        self._limit = TokenLimit(writer.training, max_tokens)
        self._rng = rng
        # A stream of its own, so that the same views are drawn with and without it.
        self._swap_rng = random.Random(f"swap {settings.seed}")
        self._num_drawn = 0
        self._stand_in = stand_in
        self._too_long: set[_Shapes] = set()

    def draw(self) -> Example:
        """The next sequence.

        Raises `TaskTooLong` where not even the shortest demonstration with one other before it fits into `max_tokens`
        (a task with a single demonstration: that one alone; `leave_one_out` off: the last one with one other), and
        there is no stand-in.
        """
        for _ in range(MAX_DRAWS):
            pairs = draw_example(self._task, rng=self._rng, views=self._views, held_out=self._held_out())
            pairs = self._swapped(pairs)
            shapes = tuple((shape(pair.input), shape(pair.output)) for pair in pairs)
            key = (shapes[-1], frozenset(shapes))
            if key in self._too_long:
                continue
            tokens = self._limit.fit(pairs, any_target=self._settings.leave_one_out != "off")
            if tokens is not None:
                self._num_drawn += 1
                return Example(tokens.ids, targets(tokens, loss_on=self._settings.loss_on))
            if self._shapes_decide:
                self._too_long.add(key)
        if self._stand_in is not None:
            self._num_drawn += 1
            return self._stand_in
        raise TaskTooLong(
            f"no two demonstrations of the task fit into a training sequence of {self._limit.max_tokens} tokens"
        )

    @cached_property
    def _shapes_decide(self) -> bool:
        return not self._writer.cells_change_length()

    def _held_out(self) -> int | None:
        num_pairs = len(self._task.train)
        return {"random": None, "rotate": self._num_drawn % num_pairs, "off": num_pairs - 1}[
            self._settings.leave_one_out
        ]

    def _swapped(self, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
        """Now and then the held-out pair changes places with one drawn from all pairs, itself included."""
        if self._swap_rng.random() >= self._settings.swap:
            return pairs
        swapped, other = list(pairs), self._swap_rng.randrange(len(pairs))
        swapped[other], swapped[-1] = swapped[-1], swapped[other]
        return tuple(swapped)


def targets(tokens: TokenizedPrompt, *, loss_on: LossOn) -> tuple[bool, ...]:
    """Which tokens the loss counts: those of the last, of every but the first, or of all outputs.

    The only output of a task with a single demonstration is a target whatever `loss_on` says: there is nothing else to
    learn from.
    """
    last = max(tokens.answers)
    first_counted = {"test_output": last, "later_outputs": min(1, last), "all_outputs": 0}[loss_on]
    return tuple(answer != CONTEXT and answer >= first_counted for answer in tokens.answers)
