"""Training sequences: a task of the mixture under a random view, one of its pairs last, written as its part says."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from arc_engine.adaptation.examples import Example, targets
from arc_engine.base_finetuning.data import Part, SolvedTask
from arc_engine.base_finetuning.recipe import Examples, Recipe, TrainingPrompt
from arc_engine.errors import TaskTooLong
from arc_engine.prompts.inputs import InputsWriter
from arc_engine.prompts.writer import PromptWriter
from arc_engine.settings import PromptSettings
from arc_engine.tasks import Pair
from arc_engine.tokens import TokenizedPrompt, Tokenizer
from arc_engine.views import View, ViewDistribution

MIN_PAIRS = 2
_TRANSPOSED = View(dihedral=4)

Write: TypeAlias = Callable[[Sequence[Pair]], TokenizedPrompt]


def writer_of(prompt: TrainingPrompt, tokenizer: Tokenizer) -> Write:
    """What writes solved pairs as one training sequence.

    Raises `EncoderUnsupported` and `PromptUnsupported` where the tokenizer cannot write it.
    """
    if prompt.version == "input-from-inputs":
        return InputsWriter.of(prompt.grid_encoder, tokenizer).training
    settings = PromptSettings(version=prompt.version, grid_encoder=prompt.grid_encoder)
    return PromptWriter.of(settings, tokenizer).training


@dataclass(frozen=True, slots=True)
class _Share:
    tasks: tuple[SolvedTask, ...]
    write: Write
    weight: float


class Corpus:
    """Draws tokenised training sequences; all randomness comes from the generator that the caller passes.

    Tasks of which no two pairs fit into `max_tokens` are left out and named in `left_out`. Raises `TaskTooLong` if
    that leaves nothing of a part.
    """

    def __init__(self, recipe: Recipe, parts: Sequence[Part], tokenizer: Tokenizer, *, max_tokens: int) -> None:
        self._examples = recipe.examples
        self._views: ViewDistribution = recipe.augmentation.distribution()
        self._max_tokens = max_tokens
        self._shares = [self._share(part, tokenizer) for part in parts]
        self._weights = [share.weight for share in self._shares]
        trained_on = {task.task_id for share in self._shares for task in share.tasks}
        self.left_out = tuple(sorted({task.task_id for part in parts for task in part.tasks} - trained_on))

    @property
    def task_ids(self) -> tuple[str, ...]:
        """The tasks that are trained on."""
        return tuple(sorted({task.task_id for share in self._shares for task in share.tasks}))

    def draw(self, rng: random.Random) -> Example:
        """The next sequence, at most `max_tokens` long."""
        while True:  # ends: of every task that is left, two pairs fit under one of the dihedral views
            (share,) = rng.choices(self._shares, self._weights)
            pairs = draw_pairs(rng.choice(share.tasks), rng=rng, examples=self._examples, views=self._views)
            tokens = self._fit(pairs, share.write)
            if tokens is not None:
                return Example(tokens.ids, targets(tokens, loss_on=self._examples.loss_on))

    def _fit(self, pairs: tuple[Pair, ...], write: Write) -> TokenizedPrompt | None:
        """Without as many of the longest context pairs as it takes."""
        tokens = write(pairs)
        while len(tokens) > self._max_tokens and len(pairs) > MIN_PAIRS:
            longest = max(range(len(pairs) - 1), key=lambda i: _cells(pairs[i]))
            pairs = pairs[:longest] + pairs[longest + 1 :]
            tokens = write(pairs)
        return tokens if len(tokens) <= self._max_tokens else None

    def _share(self, part: Part, tokenizer: Tokenizer) -> _Share:
        write = writer_of(part.prompt, tokenizer)
        tasks = tuple(task for task in part.tasks if self._fits(task, write))
        if not tasks:
            raise TaskTooLong(f"no two pairs of any task fit into a training sequence of {self._max_tokens} tokens")
        return _Share(tasks, write, part.weight)

    def _fits(self, task: SolvedTask, write: Write) -> bool:
        any_pair = self._examples.leave_one_out == "random"
        target = min(task.pairs if any_pair else task.tests, key=_cells)
        others = [pair for pair in (task.pairs if any_pair else task.demonstrations) if pair is not target]
        shortest = [min(others, key=_cells), target] if others else [target]
        views = (View(), _TRANSPOSED) if self._views.dihedral else (View(),)
        return any(len(write([view.apply_pair(pair) for pair in shortest])) <= self._max_tokens for view in views)


def draw_pairs(
    task: SolvedTask, *, rng: random.Random, examples: Examples, views: ViewDistribution
) -> tuple[Pair, ...]:
    """The task's pairs under one random view, the one that stands for the test last."""
    last = rng.randrange(len(task.pairs)) if examples.leave_one_out == "random" else _test_pair(task, rng)
    others = [i for i in range(len(task.pairs)) if i != last]
    if examples.leave_one_out == "off":  # the other tests are no demonstrations
        others = [i for i in others if i < len(task.demonstrations)]
    view = views.draw(rng, num_pairs=len(others))
    order = [*(others[i] for i in view.pair_order), last]
    if examples.swap and rng.random() < examples.swap:
        place = rng.randrange(len(order))
        order[place], order[-1] = order[-1], order[place]
    return tuple(view.apply_pair(task.pairs[i]) for i in order)


def _test_pair(task: SolvedTask, rng: random.Random) -> int:
    return len(task.demonstrations) + rng.randrange(len(task.tests))


def _cells(pair: Pair) -> int:
    return sum(len(grid) * len(grid[0]) for grid in (pair.input, pair.output))
