"""From prompt segments to token ids, with the answer that every token belongs to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final, Protocol, Self

from arc_engine.encoders import GridEncoder, parse_encoder
from arc_engine.errors import EncoderUnsupported, InvalidEncoder, PromptUnsupported
from arc_engine.grids import NUM_COLOURS
from arc_engine.segments import Segment

CONTEXT: Final = -1
GRID_ENCODER_KEY: Final = "grid_encoder"
_PLAIN: Final = "MinimalGridEncoder()"
EVERY_COLOUR: Final = (tuple(range(NUM_COLOURS)), tuple(reversed(range(NUM_COLOURS))))


class Tokenizer(Protocol):
    """What we use of a Hugging Face tokenizer."""

    @property
    def bos_token_id(self) -> int | None: ...
    @property
    def eos_token_id(self) -> int | None: ...
    @property
    def chat_template(self) -> str | dict[str, str] | None: ...
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...
    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool) -> str: ...
    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, strftime_now: Callable[[str], str]
    ) -> Any: ...  # noqa: ANN401 - a text, without `tokenize`


@dataclass(frozen=True, slots=True)
class TokenizedPrompt:
    """`ids` are token ids; `answers[i]` is the number of the output that token `i` belongs to, `CONTEXT` for none."""

    ids: tuple[int, ...]
    answers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Ends:
    """Token ids that no segment holds: `start` begins a prompt, `end` closes an answer; its last token is where the
    model stops."""

    start: tuple[int, ...]
    end: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        """The tokenizer's own beginning-of-text and end-of-text tokens, as far as it has them."""
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        return cls(() if bos is None else (bos,), () if eos is None else (eos,))


def encoder_for(expression: str | None, tokenizer: Tokenizer) -> GridEncoder:
    """The grid encoder that is asked for; None: the one that the base model was trained on.

    That is the `grid_encoder` of its `tokenizer_config.json`, where chat templates have their place too; plain digits
    if there is none. Raises `EncoderUnsupported` if what is there is no encoder.
    """
    if expression is not None:
        return parse_encoder(expression)
    own = getattr(tokenizer, "init_kwargs", {}).get(GRID_ENCODER_KEY, _PLAIN)
    try:
        return parse_encoder(own)
    except (InvalidEncoder, AttributeError, TypeError) as error:
        raise EncoderUnsupported(f"the base model's tokenizer_config.json: {GRID_ENCODER_KEY}: {error}") from error


def names_encoder(tokenizer: Tokenizer) -> bool:
    """Whether the base model says in which encoder it was trained."""
    return GRID_ENCODER_KEY in getattr(tokenizer, "init_kwargs", {})


def check_encoder(encoder: GridEncoder, tokenizer: Tokenizer, *, ends: Ends) -> None:
    """Raises `EncoderUnsupported` unless a grid of all ten colours comes back from the tokens that it is written in,
    none of which may be the one that ends an answer."""
    text = encoder.encode(EVERY_COLOUR)
    ids = tokenizer.encode(text, add_special_tokens=False)
    again = tokenizer.decode(ids, skip_special_tokens=False)
    if encoder.decode(again) != EVERY_COLOUR:
        raise EncoderUnsupported(
            f"the base model's tokenizer cannot write what the grid encoder writes: {text!r} comes back as {again!r}"
        )
    if set(ids) & set(ends.end[-1:]):
        raise EncoderUnsupported(f"what the grid encoder writes holds the token that ends an answer: {text!r}")


def check_text(segments: Sequence[Segment], tokenizer: Tokenizer) -> None:
    """Raises `PromptUnsupported` if the tokenizer loses characters of the segments, as one with few tokens may.

    White space is no matter here: some tokenizers write it their own way.
    """
    for segment in segments:
        ids = tokenizer.encode(segment.text, add_special_tokens=False)
        again = tokenizer.decode(ids, skip_special_tokens=False)
        for word, read in zip_longest(segment.text.split(), again.split(), fillvalue=""):
            if word != read:
                raise PromptUnsupported(
                    f"the base model's tokenizer cannot write the prompt: {word!r} comes back as {read!r}"
                )


def tokenize(segments: Sequence[Segment], tokenizer: Tokenizer, *, ends: Ends | None = None) -> TokenizedPrompt:
    """Token ids of the segments between `ends`, which are the tokenizer's own unless told otherwise.

    The tokens that close an answer count as part of it.
    """
    ends = ends or Ends.of(tokenizer)
    ids = list(ends.start)
    answers = [CONTEXT] * len(ids)
    for segment in segments:
        piece = tokenizer.encode(segment.text, add_special_tokens=False)
        if segment.answer is not None and segment.closed:
            piece = [*piece, *ends.end]
        ids += piece
        answers += [CONTEXT if segment.answer is None else segment.answer] * len(piece)
    return TokenizedPrompt(tuple(ids), tuple(answers))
