"""The `input-from-inputs` prompt of base fine-tuning: the inputs of a task in a row, each to be predicted from those
before it, so that a model learns what grids of one task have in common.

An idea of the arc24 solution (https://github.com/ironbar/arc24); nobody is ever asked for an input at test time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from arc_engine.encoders import GridEncoder
from arc_engine.prompts.compact import compact_ends
from arc_engine.segments import Segment
from arc_engine.tasks import Pair
from arc_engine.tokens import (
    EVERY_COLOUR,
    Ends,
    TokenizedPrompt,
    Tokenizer,
    check_encoder,
    check_text,
    encoder_for,
    tokenize,
)


def render_inputs(pairs: Sequence[Pair], *, encoder: GridEncoder) -> list[Segment]:
    """`I<input>` per pair, every input an answer that is closed by the end-of-text token."""
    segments: list[Segment] = []
    for number, pair in enumerate(pairs):
        segments += [Segment("I"), Segment(encoder.encode(pair.input), answer=number)]
    return segments


@dataclass(frozen=True, slots=True)
class InputsWriter:
    """Writes the inputs of pairs as token ids."""

    encoder: GridEncoder
    tokenizer: Tokenizer
    ends: Ends

    @classmethod
    def of(cls, grid_encoder: str | None, tokenizer: Tokenizer) -> Self:
        """Raises `EncoderUnsupported` if the tokenizer cannot write the grids, `PromptUnsupported` if not the rest."""
        encoder = encoder_for(grid_encoder, tokenizer)
        ends = compact_ends(tokenizer)
        check_encoder(encoder, tokenizer, ends=ends)
        check_text(render_inputs([Pair(EVERY_COLOUR, EVERY_COLOUR)], encoder=encoder), tokenizer)
        return cls(encoder, tokenizer, ends)

    def training(self, pairs: Sequence[Pair]) -> TokenizedPrompt:
        """A training sequence: every input is an answer, numbered from 0."""
        return tokenize(render_inputs(pairs, encoder=self.encoder), self.tokenizer, ends=self.ends)
