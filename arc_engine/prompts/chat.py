"""The `chat` prompt: the task in words, as one turn of a conversation with an instruction-tuned model.

The conversation is framed by the tokenizer's own chat template; the headings follow the idea of the arc24 solution
(https://github.com/ironbar/arc24) in words of our own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from jinja2 import TemplateError

from arc_engine.encoders import GridEncoder
from arc_engine.errors import PromptUnsupported
from arc_engine.grids import Grid
from arc_engine.segments import Segment
from arc_engine.tasks import Pair
from arc_engine.tokens import Ends, Tokenizer

SYSTEM: Final = (
    "You solve puzzles on grids of coloured cells, in which every colour is written as a symbol. One rule turns each "
    "input grid of a puzzle into its output grid. Find the rule in the examples and apply it to the test."
)
REQUEST: Final = "Write the output grid of the test in the same notation, and nothing else."

_USER: Final = "what-the-user-says"
_ASSISTANT: Final = "what-the-assistant-says"
_TODAY: Final = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Frame:
    """The text of a conversation around its parts: `opening`, the user's text, `asking`, the answer, `closing`.

    `opening` holds the system's text.
    """

    opening: str
    asking: str
    closing: str

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        """What the chat template writes; a template that has no place for a system's text has it in the user's.

        Raises `PromptUnsupported` where there is no template, or none that shows both sides of a conversation.
        """
        if tokenizer.chat_template is None:
            raise PromptUnsupported("the prompt version chat needs a chat template, which the base model has not")
        system = {"role": "system", "content": SYSTEM}
        try:
            text = _conversation(tokenizer, system, user=_USER)
        except TemplateError:
            text = ""
        if SYSTEM not in text:
            text = _conversation(tokenizer, user=f"{SYSTEM}\n\n{_USER}")
        if text.count(_USER) != 1 or text.count(_ASSISTANT) != 1 or SYSTEM not in text:
            raise PromptUnsupported(f"the base model's chat template does not show what is said: {text!r}")
        opening, _, rest = text.partition(_USER)
        asking, _, closing = rest.partition(_ASSISTANT)
        return cls(opening, asking, closing)


def _conversation(tokenizer: Tokenizer, *system: dict[str, str], user: str) -> str:
    """The template's text; templates that write the date get one that does not change, as the losses must not."""
    turns = [*system, {"role": "user", "content": user}, {"role": "assistant", "content": _ASSISTANT}]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, strftime_now=_TODAY.strftime))
    except TemplateError as error:
        if system:
            raise
        raise PromptUnsupported(f"the base model's chat template refuses a conversation: {error}") from error


@dataclass(frozen=True, slots=True)
class ChatLayout:
    """Demonstrations and test in the user's turn, the output of the test as the assistant's answer.

    The outputs of demonstrations are answers as well, but the layout's own text follows them and not the end token. The
    template writes the beginning of the text, if there is one, itself.
    """

    frame: Frame
    ends: Ends

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Self:
        """Raises `PromptUnsupported` where the chat template is missing or has no special token after an answer."""
        frame = Frame.of(tokenizer)
        return cls(frame, Ends((), _closing_ids(frame.closing, tokenizer)))

    def question(self, pairs: Sequence[Pair], query: Grid, *, encoder: GridEncoder) -> list[Segment]:
        segments: list[Segment] = []
        said = self.frame.opening
        for number, pair in enumerate(pairs):
            said += f"# Example {number + 1}\n\nInput:\n{encoder.encode(pair.input)}\n\nOutput:\n"
            segments += [Segment(said), Segment(encoder.encode(pair.output), answer=number, closed=False)]
            said = "\n\n"
        said += f"# Test\n\nInput:\n{encoder.encode(query)}\n\n{REQUEST}{self.frame.asking}"
        return [*segments, Segment(said)]


def _closing_ids(closing: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Up to and with the first special token of what the template writes after an answer: there sampling stops."""
    ids = tokenizer.encode(closing, add_special_tokens=False)
    for position, token in enumerate(ids):
        if not tokenizer.decode([token], skip_special_tokens=True) and tokenizer.decode(
            [token], skip_special_tokens=False
        ):
            return tuple(ids[: position + 1])
    raise PromptUnsupported(f"the base model's chat template closes an answer with no special token but {closing!r}")
