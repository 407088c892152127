"""The `compact` prompt: one marker before every grid, one token after every output."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from arc_engine.encoders import GridEncoder
from arc_engine.errors import PromptUnsupported
from arc_engine.grids import Grid
from arc_engine.segments import Segment
from arc_engine.tasks import Pair
from arc_engine.tokens import Ends, Tokenizer


def render(pairs: Sequence[Pair], *, query: Grid | None, encoder: GridEncoder) -> list[Segment]:
    """The `compact` prompt: `I<input>O<output>` per pair, every output closed by the end-of-text token.

    With a `query` the last pair is left open after its `O`, for the model to answer; without one the segments are a
    training sequence. The markers are those of the ARChitects' 2024 solution.
    """
    segments: list[Segment] = []
    for number, pair in enumerate(pairs):
        segments.append(Segment(f"I{encoder.encode(pair.input)}O"))
        segments.append(Segment(encoder.encode(pair.output), answer=number))
    if query is not None:
        segments.append(Segment(f"I{encoder.encode(query)}O"))
    return segments


def compact_ends(tokenizer: Tokenizer) -> Ends:
    """The tokenizer's own. Raises `PromptUnsupported` if it has no end-of-text token: no answer would ever end."""
    ends = Ends.of(tokenizer)
    if not ends.end:
        raise PromptUnsupported("the base model's tokenizer has no end-of-text token to close answers with")
    return ends


@dataclass(frozen=True, slots=True)
class CompactLayout:
    """`render` between the tokenizer's own beginning-of-text and end-of-text tokens."""

    ends: Ends

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        """Raises `PromptUnsupported` where `compact_ends` does."""
        return cls(compact_ends(tokenizer))

    def question(self, pairs: Sequence[Pair], query: Grid, *, encoder: GridEncoder) -> list[Segment]:
        return render(pairs, query=query, encoder=encoder)
