"""A prompt version in the tokens of one tokenizer: what training sequences and sampling prompts both come from."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self

from arc_engine.encoders import GridEncoder, Refusal
from arc_engine.grids import MAX_SIDE, NUM_COLOURS, Grid
from arc_engine.prompts import PromptVersion
from arc_engine.prompts.chat import ChatLayout
from arc_engine.prompts.compact import CompactLayout
from arc_engine.segments import Segment
from arc_engine.settings import PromptSettings
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


class Layout(Protocol):
    """A prompt version. A training sequence is a question with its answer, so a layout only knows how to ask."""

    @property
    def ends(self) -> Ends:
        """What a prompt starts with and what closes an answer."""
        ...

    def question(self, pairs: Sequence[Pair], query: Grid, *, encoder: GridEncoder) -> list[Segment]:
        """The outputs of `pairs` as answers numbered from 0, then `query`, left open for the model."""
        ...


_LAYOUTS: Final[dict[PromptVersion, Callable[[Tokenizer], Layout]]] = {
    "compact": CompactLayout.of,
    "chat": ChatLayout.of,
}


def training_segments(layout: Layout, pairs: Sequence[Pair], *, encoder: GridEncoder) -> list[Segment]:
    """A question with its answer: the last pair stands in for the test."""
    *shown, last = pairs
    answer = Segment(encoder.encode(last.output), answer=len(shown))
    return [*layout.question(shown, last.input, encoder=encoder), answer]


@dataclass(frozen=True, slots=True)
class PromptWriter:
    """Writes tasks as token ids and reads the model's token ids as grids."""

    encoder: GridEncoder
    tokenizer: Tokenizer
    layout: Layout

    @classmethod
    def of(cls, settings: PromptSettings, tokenizer: Tokenizer) -> Self:
        """Raises `EncoderUnsupported` if the tokenizer cannot write the grids, `PromptUnsupported` if not the rest."""
        encoder = encoder_for(settings.grid_encoder, tokenizer)
        layout = _LAYOUTS[settings.version](tokenizer)
        check_encoder(encoder, tokenizer, ends=layout.ends)
        ten_pairs = [Pair(EVERY_COLOUR, EVERY_COLOUR)] * NUM_COLOURS  # every digit is in the number of one
        check_text(layout.question(ten_pairs, EVERY_COLOUR, encoder=encoder), tokenizer)
        return cls(encoder, tokenizer, layout)

    @property
    def stop_token_id(self) -> int:
        """The token at which the model's answer ends."""
        return self.layout.ends.end[-1]

    def training(self, pairs: Sequence[Pair]) -> TokenizedPrompt:
        """A training sequence: every output is an answer, numbered from 0; the last pair's is the one asked for."""
        return self._tokens(training_segments(self.layout, pairs, encoder=self.encoder))

    def question(self, pairs: Sequence[Pair], query: Grid) -> TokenizedPrompt:
        """A prompt for the model to continue: what a training sequence of the same grids begins with."""
        return self._tokens(self.layout.question(pairs, query, encoder=self.encoder))

    def answer(self, grid: Grid) -> tuple[int, ...]:
        """The tokens that the model generates to answer `grid`, its end included."""
        written = self.tokenizer.encode(self.encoder.encode(grid), add_special_tokens=False)
        return (*written, *self.layout.ends.end)

    def num_answer_tokens(self, grid: Grid) -> int:
        """How many tokens the model generates to answer `grid`, its end included."""
        return len(self.answer(grid))

    def answer_alphabet(self) -> tuple[int, ...] | None:
        """Every token that an answer may be written with, ascending; None where digits merge into more tokens than can
        be known to be all.

        Gathered from grids of one colour each and from random ones of all heights and widths. Other grids like these
        show whether there are more: a tokenizer that takes digits by threes has a thousand, all of the same length.
        """
        if self.cells_change_length():
            return None
        gathered, others = self._answer_tokens(random.Random(0)), self._answer_tokens(random.Random(1))
        return tuple(sorted(gathered)) if others <= gathered else None

    def cells_change_length(self) -> bool:
        """Whether grids of one shape can differ in their number of tokens, as they do where digits merge into tokens.

        Seen in grids of one colour each, which hold the runs that tokenizers know best, and in random ones.
        """
        rng, colours = random.Random(0), range(NUM_COLOURS)
        plain = [((colour,) * MAX_SIDE,) * 3 for colour in colours]
        mixed = [tuple(tuple(rng.choices(colours, k=MAX_SIDE)) for _ in range(3)) for _ in colours]
        return len({self.num_answer_tokens(grid) for grid in (*plain, *mixed)}) > 1

    def read(self, ids: Sequence[int]) -> Grid | Refusal:
        """The grid in the model's answer, given without its stop token.

        Special tokens stay in the text: an answer that holds one is refused, not repaired.
        """
        text = self.tokenizer.decode(ids, skip_special_tokens=False)
        closing = self.tokenizer.decode(self.layout.ends.end[:-1], skip_special_tokens=False)
        return self.encoder.decode(text.removesuffix(closing))

    def _answer_tokens(self, rng: random.Random) -> set[int]:
        plain = [((colour,) * MAX_SIDE,) * 2 for colour in range(NUM_COLOURS)]
        sizes = [(height, MAX_SIDE + 1 - height) for height in range(1, MAX_SIDE + 1)]
        mixed = [
            tuple(tuple(rng.choices(range(NUM_COLOURS), k=width)) for _ in range(height)) for height, width in sizes
        ]
        return {token for grid in (*plain, *mixed) for token in self.answer(grid)}

    def _tokens(self, segments: Sequence[Segment]) -> TokenizedPrompt:
        return tokenize(segments, self.tokenizer, ends=self.layout.ends)
