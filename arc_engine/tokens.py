"""From prompt segments to token ids, with the answer that every token belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from arc_engine.encoders import GridEncoder
from arc_engine.errors import EncoderUnsupported
from arc_engine.grids import NUM_COLOURS
from arc_engine.prompts import Segment

CONTEXT: Final = -1
_EVERY_COLOUR: Final = (tuple(range(NUM_COLOURS)), tuple(reversed(range(NUM_COLOURS))))


class Tokenizer(Protocol):
    """What we use of a Hugging Face tokenizer."""

    @property
    def bos_token_id(self) -> int | None: ...
    @property
    def eos_token_id(self) -> int | None: ...
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...
    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str: ...


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """`ids` are token ids; `answers[i]` is the number of the output that token `i` belongs to, `CONTEXT` for none."""

    ids: tuple[int, ...]
    answers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


def check_encoder(encoder: GridEncoder, tokenizer: Tokenizer) -> None:
    """Raises `EncoderUnsupported` unless a grid of all ten colours comes back from the tokens that it is written in."""
    text = encoder.encode(_EVERY_COLOUR)
    again = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False), skip_special_tokens=False)
    if encoder.decode(again) != _EVERY_COLOUR:
        raise EncoderUnsupported(
            f"the base model's tokenizer cannot write what the grid encoder writes: {text!r} comes back as {again!r}"
        )


def tokenize(segments: Sequence[Segment], tokenizer: Tokenizer) -> TokenizedPrompt:
    """Token ids of the segments: a beginning-of-text token if the tokenizer has one, every answer closed by its
    end-of-text token, which counts as part of the answer."""
    ids: list[int] = []
    answers: list[int] = []
    if tokenizer.bos_token_id is not None:
        ids.append(tokenizer.bos_token_id)
        answers.append(CONTEXT)
    for segment in segments:
        piece = tokenizer.encode(segment.text, add_special_tokens=False)
        if segment.answer is not None and tokenizer.eos_token_id is not None:
            piece = [*piece, tokenizer.eos_token_id]
        ids += piece
        answers += [CONTEXT if segment.answer is None else segment.answer] * len(piece)
    return TokenizedPrompt(tuple(ids), tuple(answers))
