"""The longest sequence that may be trained on, and what pairs lose to stay within it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from arc_engine.tasks import Pair
from arc_engine.tokens import TokenizedPrompt

MIN_PAIRS: Final = 2  # one to learn from, one to predict

Write: TypeAlias = Callable[[Sequence[Pair]], TokenizedPrompt]
"""Writes solved pairs as one training sequence, the last of them standing in for the test."""


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """At most `max_tokens`, as `write` counts them."""

    write: Write
    max_tokens: int

    def fit(self, pairs: tuple[Pair, ...], *, any_target: bool) -> TokenizedPrompt | None:
        """The pairs without as many of the longest context pairs as it takes, one context pair left at least.

        Where not even that is short enough, with `any_target` the next pair is the last one instead; else None.
        """
        tokens = self.write(pairs)
        if len(tokens) <= self.max_tokens:
            return tokens
        num_tokens = {pair: len(self.write([pair])) for pair in pairs}
        for _ in pairs:
            tokens = self._shortened(pairs, num_tokens=num_tokens)
            if len(tokens) <= self.max_tokens:
                return tokens
            if not any_target:
                return None
            pairs = (pairs[-1], *pairs[:-1])
        return None

    def _shortened(self, pairs: tuple[Pair, ...], *, num_tokens: Mapping[Pair, int]) -> TokenizedPrompt:
        tokens = self.write(pairs)
        while len(pairs) > MIN_PAIRS and len(tokens) > self.max_tokens:
            longest = max(range(len(pairs) - 1), key=lambda i: num_tokens[pairs[i]])
            pairs = pairs[:longest] + pairs[longest + 1 :]
            tokens = self.write(pairs)
        return tokens
