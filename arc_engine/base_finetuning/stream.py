"""An endless stream of micro-batches of similar lengths, from pools that can be drawn again after a crash."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from arc_engine.adaptation.examples import Example
from arc_engine.base_finetuning.corpus import Corpus
from arc_engine.base_finetuning.recipe import Recipe

POOL_SEQUENCES: Final = 256
POOL_BATCHES: Final = 32  # where a batch is a number of sequences


@dataclass(frozen=True, slots=True)
class StreamState:
    """All that is needed to go on with the very next micro-batch."""

    pool: int = -1
    position: int = 0


class BatchStream:
    """Every process of a run draws the same stream; a pool depends on the recipe's seed and the pool's number only."""

    def __init__(self, corpus: Corpus, recipe: Recipe) -> None:
        self._corpus = corpus
        self._recipe = recipe
        self._state = StreamState()
        self._batches: list[list[Example]] = []

    @property
    def state(self) -> StreamState:
        """Where the stream stands, to be given to `restore`."""
        return self._state

    def restore(self, state: StreamState) -> None:
        """Goes to where another stream stood."""
        self._state = state
        self._batches = self._draw_pool(state.pool) if state.pool >= 0 else []

    def next_batch(self) -> list[Example]:
        """The next micro-batch."""
        if self._state.position >= len(self._batches):
            self.restore(StreamState(self._state.pool + 1, 0))
        state = self._state
        self._state = StreamState(state.pool, state.position + 1)
        return self._batches[state.position]

    def _draw_pool(self, pool: int) -> list[list[Example]]:
        rng = random.Random(f"base fine-tuning {self._recipe.seed} {pool}")
        size = self._recipe.batch_size
        num_sequences = POOL_SEQUENCES if size is None else size * POOL_BATCHES
        examples = sorted((self._corpus.draw(rng) for _ in range(num_sequences)), key=len)
        if size is None:
            batches = cut(examples, batch_tokens=self._recipe.batch_tokens or 0)
        else:
            batches = [examples[start : start + size] for start in range(0, num_sequences, size)]
        rng.shuffle(batches)
        return batches


def cut(examples: Sequence[Example], *, batch_tokens: int) -> list[list[Example]]:
    """Slices of rising lengths, each at most `batch_tokens` with its padding (or one sequence)."""
    batches: list[list[Example]] = []
    for example in examples:
        if not batches or len(example) * (len(batches[-1]) + 1) > batch_tokens:
            batches.append([])
        batches[-1].append(example)
    return batches
