"""Batches of sequences one after the other, without padding, from pools that can be drawn again after a crash."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Self

import numpy as np
import torch

from arc_engine.pretraining.corpus import Corpus, TracedPrompt
from arc_engine.pretraining.origins import NO_LINKS, Places
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
    links: torch.Tensor
    """`[links, 2]`: the token of an output cell, and that of the input cell which it comes from, as far as known."""

    def to(self, device: torch.device) -> Self:
        """The same on that device."""
        return replace(self, ids=self.ids.to(device), targets=self.targets.to(device), links=self.links.to(device))

    @property
    def num_tokens(self) -> int:
        """All that the model reads."""
        return sum(self.lengths)

    @property
    def num_targets(self) -> int:
        """Of them, those that the loss counts."""
        return int((self.targets != IGNORED).sum())

    @property
    def starts(self) -> torch.Tensor:
        """`[tokens]`: where every token's sequence begins."""
        lengths = torch.tensor(self.lengths)
        return (lengths.cumsum(0) - lengths).repeat_interleave(lengths).to(self.ids.device)

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


def collate(
    prompts: Sequence[TokenizedPrompt], *, links: Sequence[Places] = (), from_answer: int = FIRST_PREDICTABLE_ANSWER
) -> Batch:
    """The loss covers outputs from the second pair on: nothing predicts the first. `links` are those of each prompt."""
    ids, targets = list[torch.Tensor](), list[torch.Tensor]()
    for prompt in prompts:
        tokens = torch.tensor(prompt.ids)
        counted = torch.tensor(prompt.answers[1:]) >= from_answer
        ids.append(tokens[:-1])
        targets.append(torch.where(counted, tokens[1:], IGNORED))
    lengths = tuple(map(len, ids))
    linked = [NO_LINKS, *(one + start for one, start in zip(links, accumulate(lengths, initial=0), strict=False))]
    return Batch(torch.cat(ids)[None], torch.cat(targets)[None], lengths, torch.from_numpy(np.concatenate(linked)))


class BatchStream:
    """An endless stream of batches. A pool of sequences depends only on the seed, its number and the progress."""

    def __init__(self, corpus: Corpus, recipe: Recipe) -> None:
        self._corpus = corpus
        self._recipe = recipe
        self._state = StreamState(-1, 0, 0.0)
        self._batches: list[list[TracedPrompt]] = []

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
        traced = self._batches[state.position]
        return collate([one.prompt for one in traced], links=[one.links for one in traced])

    def _draw_pool(self, pool: int, progress: float) -> list[list[TracedPrompt]]:
        rng = np.random.default_rng([self._recipe.seed, pool])
        prompts = [self._corpus.sequence(rng, progress=progress) for _ in range(self._recipe.pool_sequences)]
        stage, _ = self._recipe.stage_at(progress)
        return _cut(prompts, batch_tokens=stage.batch_tokens)


def _cut(prompts: Sequence[TracedPrompt], *, batch_tokens: int) -> list[list[TracedPrompt]]:
    """In their order, as many at a time as have `batch_tokens` together (or one sequence)."""
    batches: list[list[TracedPrompt]] = [[]]
    for one in prompts:
        if batches[-1] and sum(len(other.prompt) for other in batches[-1]) + len(one.prompt) > batch_tokens:
            batches.append([])
        batches[-1].append(one)
    return batches
