"""How often the model answers held-out tasks exactly, greedily, in one view and without adaptation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from transformers import LlamaForCausalLM

from arc_engine.errors import TaskTooLong
from arc_engine.pretraining.batches import IGNORED, collate
from arc_engine.pretraining.corpus import Corpus, plain_tokens
from arc_engine.pretraining.families import FAMILIES, SizeRange
from arc_engine.pretraining.forward import Forward
from arc_engine.pretraining.model import labelled_logits
from arc_engine.pretraining.recipe import Held, Recipe
from arc_engine.pretraining.synthetic import draw_pairs
from arc_engine.tasks import Pair
from arc_engine.tokens import TokenizedPrompt

_STREAM = 1_000_003  # keeps the generator of held-out tasks apart from those of the training pools
_NUM_PAIRS = 4
_MAX_DRAWS = 1000
_BATCH_TOKENS = 6000
ARC_GROUP = "arc"
UNSEEN_GROUP = "unseen families"


Part: TypeAlias = Literal["synthetic", "unseen", "arc"]
"""Fresh tasks of families that are trained on; of those that are not; ARC training tasks that are held out."""


@dataclass(frozen=True, slots=True)
class HeldOutTask:
    """A prompt whose last output is the question; `group` is its theme, `UNSEEN_GROUP` or `ARC_GROUP`."""

    group: str
    name: str
    prompt: TokenizedPrompt


@dataclass(frozen=True, slots=True)
class Report:
    """Solved and asked, by group and by name."""

    groups: dict[str, tuple[int, int]]
    names: dict[str, tuple[int, int]]
    token_accuracy: float

    def rate(self, part: Part) -> float:
        """Share of exact answers; 0 where nothing was asked."""
        apart = {"arc": ARC_GROUP, "unseen": UNSEEN_GROUP}
        names = [apart[part]] if part in apart else self.groups.keys() - apart.values()
        counts = [self.groups.get(name, (0, 0)) for name in names]
        return sum(solved for solved, _ in counts) / max(1, sum(asked for _, asked in counts))


def held_out_tasks(corpus: Corpus, recipe: Recipe) -> list[HeldOutTask]:
    """A few fresh tasks of every family, and the ARC training tasks kept out of training."""
    rng = np.random.default_rng([recipe.seed, _STREAM, 0])
    found = []
    for name in sorted(FAMILIES):
        for _ in range(recipe.held_out.tasks_per_family):
            pairs = _drawn(corpus, rng, name, recipe.held_out)
            group = UNSEEN_GROUP if name in recipe.held_out.families else FAMILIES[name].theme
            found.append(HeldOutTask(group, name, corpus.tokens_of(pairs)))
    found += [HeldOutTask(ARC_GROUP, task.task_id, corpus.tokens_of(task.pairs)) for task in corpus.held_out]
    return found


def _drawn(corpus: Corpus, rng: np.random.Generator, name: str, held: Held) -> Sequence[Pair]:
    for _ in range(_MAX_DRAWS):
        size = SizeRange(2, int(rng.integers(3, held.max_side + 1)))
        pairs = draw_pairs(FAMILIES[name], rng, size=size, num_pairs=_NUM_PAIRS)
        if plain_tokens(pairs) <= held.arc_max_tokens:
            return corpus.under_view(pairs, rng)
    raise TaskTooLong(f"held_out.arc_max_tokens: no task of family {name} has at most {held.arc_max_tokens} tokens")


@torch.no_grad()
def validate(model: LlamaForCausalLM, tasks: Sequence[HeldOutTask], *, forward: Forward | None = None) -> Report:
    """One forward pass per task: greedy decoding gives the true answer exactly when the most likely token is the true
    one at every place of it, end of text included."""
    model.eval()
    groups: dict[str, tuple[int, int]] = {}
    names: dict[str, tuple[int, int]] = {}
    right_tokens = all_tokens = 0
    for tasks_of_batch in _batched(tasks):
        counted = _count_right(model, tasks_of_batch, forward=forward or Forward())
        for task, (right, total) in zip(tasks_of_batch, counted, strict=True):
            for table, key in ((groups, task.group), (names, task.name)):
                solved, asked = table.get(key, (0, 0))
                table[key] = solved + (right == total), asked + 1
            right_tokens, all_tokens = right_tokens + right, all_tokens + total
    model.train()
    return Report(groups, names, right_tokens / max(1, all_tokens))


def _count_right(model: LlamaForCausalLM, tasks: Sequence[HeldOutTask], *, forward: Forward) -> list[tuple[int, int]]:
    batch = collate([_only_last(task.prompt) for task in tasks]).to(model.device)
    logits, targets = labelled_logits(model, batch, forward=forward)
    right = logits.argmax(-1) == targets
    asked = [int((part != IGNORED).sum()) for part in torch.split(batch.targets[0], list(batch.lengths))]
    return [(int(part.sum()), len(part)) for part in torch.split(right, asked)]


def _only_last(prompt: TokenizedPrompt) -> TokenizedPrompt:
    last = max(prompt.answers)
    return TokenizedPrompt(prompt.ids, tuple(1 if answer == last else -1 for answer in prompt.answers))


def _batched(tasks: Sequence[HeldOutTask]) -> Iterable[list[HeldOutTask]]:
    batch: list[HeldOutTask] = []
    for task in tasks:
        if batch and sum(len(one.prompt) for one in batch) + len(task.prompt) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(task)
    if batch:
        yield batch
