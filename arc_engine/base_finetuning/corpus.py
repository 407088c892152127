"""Training sequences: a task of the mixture under a random view, one of its pairs last, written as its part says."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from arc_engine.adaptation.examples import MAX_DRAWS, Example, targets
from arc_engine.adaptation.limit import TokenLimit, Write
from arc_engine.base_finetuning.data import Part, SolvedTask
from arc_engine.base_finetuning.recipe import Examples, Recipe, TrainingPrompt
from arc_engine.errors import TaskTooLong
from arc_engine.prompts.inputs import InputsWriter
from arc_engine.prompts.writer import PromptWriter
from arc_engine.settings import PromptSettings
from arc_engine.tasks import Pair
from arc_engine.tokens import Tokenizer
from arc_engine.views import View, ViewDistribution

_TRANSPOSED = View(dihedral=4)


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
    stand_ins: Mapping[str, Example]
    """By task id, a sequence that is known to fit, for when a run of bad luck finds no other."""
    limit: TokenLimit
    weight: float


class Corpus:
    """Draws tokenised training sequences; all randomness comes from the generator that the caller passes.

    Tasks of which no two pairs fit into `max_tokens` are left out and named in `left_out`; the others are drawn equally
    often, however many of their pairs or views do not fit. Raises `TaskTooLong` if nothing is left of a part.
    """

    def __init__(self, recipe: Recipe, parts: Sequence[Part], tokenizer: Tokenizer, *, max_tokens: int) -> None:
        self._examples = recipe.examples
        self._any_pair = recipe.examples.leave_one_out == "random"
        self._views: ViewDistribution = recipe.augmentation.distribution()
        self._shares = [self._share(part, TokenLimit(writer_of(part.prompt, tokenizer), max_tokens)) for part in parts]
        self._weights = [share.weight for share in self._shares]
        trained_on = {task.task_id for share in self._shares for task in share.tasks}
        self.left_out = tuple(sorted({task.task_id for part in parts for task in part.tasks} - trained_on))

    @property
    def task_ids(self) -> tuple[str, ...]:
        """The tasks that are trained on."""
        return tuple(sorted({task.task_id for share in self._shares for task in share.tasks}))

    def draw(self, rng: random.Random) -> Example:
        """The next sequence, at most `max_tokens` long."""
        (share,) = rng.choices(self._shares, self._weights)
        task = rng.choice(share.tasks)
        for _ in range(MAX_DRAWS):
            pairs = draw_pairs(task, rng=rng, examples=self._examples, views=self._views)
            example = self._example(pairs, share.limit)
            if example is not None:
                return example
        return share.stand_ins[task.task_id]

    def _example(self, pairs: tuple[Pair, ...], limit: TokenLimit) -> Example | None:
        tokens = limit.fit(pairs, any_target=self._any_pair)
        return None if tokens is None else Example(tokens.ids, targets(tokens, loss_on=self._examples.loss_on))

    def _share(self, part: Part, limit: TokenLimit) -> _Share:
        found = {task.task_id: self._stand_in(task, limit) for task in part.tasks}
        stand_ins = {task_id: example for task_id, example in found.items() if example is not None}
        if not stand_ins:
            raise TaskTooLong(f"no two pairs of any task fit into a training sequence of {limit.max_tokens} tokens")
        return _Share(tuple(task for task in part.tasks if task.task_id in stand_ins), stand_ins, limit, part.weight)

    def _stand_in(self, task: SolvedTask, limit: TokenLimit) -> Example | None:
        views = (View(), _TRANSPOSED) if self._views.dihedral else (View(),)
        tried = (
            self._example(tuple(map(view.apply_pair, pairs)), limit) for view in views for pairs in self._in_order(task)
        )
        return next((example for example in tried if example is not None), None)

    def _in_order(self, task: SolvedTask) -> Iterator[tuple[Pair, ...]]:
        """All pairs, any of which may be made the last one; or the demonstrations, and each test after them."""
        if self._any_pair:
            yield task.pairs
        else:
            yield from ((*task.demonstrations, test) for test in task.tests)


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
