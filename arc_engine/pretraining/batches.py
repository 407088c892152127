"""Batches of sequences one after the other, without padding, from pools that can be drawn again after a crash."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from arc_engine.pretraining.corpus import Corpus
from arc_engine.pretraining.recipe import Recipe
from arc_engine.tokens import TokenizedPrompt

IGNORED = -100
FIRST_PREDICTABLE_ANSWER = 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences one after the other, each without its last token, which nothing follows."""

    ids: torch.Tensor
    """`[1, tokens]`"""
    targets: torch.Tensor
    """`[1, tokens]`: the token after each, or `IGNORED`."""
    lengths: tuple[int, ...]
    """Of the sequences, in tokens."""

    def to(self, device: torch.device) -> Self:
        """The same on that device."""
        return replace(self, ids=self.ids.to(device), targets=self.targets.to(device))

    @property
    def num_tokens(self) -> int:
        """All that the model reads."""
        return sum(self.lengths)

    @property
    def num_targets(self) -> int:
        """Of them, those that the loss counts."""
        return int((self.targets != IGNORED).sum())

    @property
    def positions(self) -> torch.Tensor:
        """`[1, tokens]`: every token's place in its sequence."""
        return torch.cat([torch.arange(length, device=self.ids.device) for length in self.lengths]).unsqueeze(0)


@dataclass(frozen=True, slots=True)
class StreamState:
    """All that is needed to go on with the very next batch."""

    pool: int
    position: int
    progress: float


def collate(prompts: Sequence[TokenizedPrompt], *, from_answer: int = FIRST_PREDICTABLE_ANSWER) -> Batch:
    """The loss covers outputs from the second pair on: nothing predicts the first."""
    ids, targets = list[torch.Tensor](), list[torch.Tensor]()
    for prompt in prompts:
        tokens = torch.tensor(prompt.ids)
        counted = torch.tensor(prompt.answers[1:]) >= from_answer
        ids.append(tokens[:-1])
        targets.append(torch.where(counted, tokens[1:], IGNORED))
    return Batch(torch.cat(ids)[None], torch.cat(targets)[None], tuple(map(len, ids)))


class BatchStream:
    """An endless stream of batches. A pool of sequences depends only on the seed, its number and the progress."""

    def __init__(self, corpus: Corpus, recipe: Recipe) -> None:
        self._corpus = corpus
        self._recipe = recipe
        self._state = StreamState(-1, 0, 0.0)
        self._batches: list[list[TokenizedPrompt]] = []

    @property
    def state(self) -> StreamState:
        """Where the stream stands, to be given to `restore`."""
        return self._state

    def restore(self, state: StreamState) -> None:
        """Goes to where another stream stood."""
        self._state = state
        self._batches = self._draw_pool(state.pool, state.progress) if state.pool >= 0 else []

    def next_batch(self, progress: float) -> Batch:
        """The next batch; when a pool is used up, the next one is drawn for `progress` 0..1."""
        if self._state.position >= len(self._batches):
            self._state = StreamState(self._state.pool + 1, 0, progress)
            self._batches = self._draw_pool(self._state.pool, progress)
        state = self._state
        self._state = StreamState(state.pool, state.position + 1, state.progress)
        return collate(self._batches[state.position])

    def _draw_pool(self, pool: int, progress: float) -> list[list[TokenizedPrompt]]:
        rng = np.random.default_rng([self._recipe.seed, pool])
        prompts = [self._corpus.sequence(rng, progress=progress) for _ in range(self._recipe.pool_sequences)]
        stage, _ = self._recipe.stage_at(progress)
        return _cut(prompts, batch_tokens=stage.batch_tokens)


def _cut(prompts: Sequence[TokenizedPrompt], *, batch_tokens: int) -> list[list[TokenizedPrompt]]:
    """In their order, as many at a time as have `batch_tokens` together (or one sequence)."""
    batches: list[list[TokenizedPrompt]] = [[]]
    for prompt in prompts:
        if batches[-1] and sum(map(len, batches[-1])) + len(prompt) > batch_tokens:
            batches.append([])
        batches[-1].append(prompt)
    return batches
