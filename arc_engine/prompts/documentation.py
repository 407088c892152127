"""`docs/prompts.md`, written from the prompts and encoders themselves: `make docs`."""

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from arc_engine.encoders import ENCODERS, Refusal, parse_encoder
from arc_engine.prompts.chat import SYSTEM, ChatLayout, Frame
from arc_engine.prompts.compact import CompactLayout
from arc_engine.prompts.inputs import render_inputs
from arc_engine.prompts.writer import training_segments
from arc_engine.segments import Segment
from arc_engine.tasks import Pair
from arc_engine.tokens import Ends

TASK: Final = (
    Pair(((1, 0), (0, 0)), ((0, 1), (0, 0))),
    Pair(((2, 2, 0),), ((0, 2, 2),)),
    Pair(((0, 3),), ((3, 0),)),
)
GRID: Final = ((0, 1, 2), (3, 4, 5))

CHATML: Final = Frame(
    opening=f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n",
    asking="<|im_end|>\n<|im_start|>assistant\n",
    closing="<|im_end|>\n",
)
"""What the chat template of SmolLM2, Qwen2 and many others writes."""

ENCODER_EXAMPLES: Final = (
    "MinimalGridEncoder()",
    "GridWithSeparationEncoder('|')",
    "RepeatNumberEncoder(2)",
    "ReplaceNumberEncoder(MinimalGridEncoder())",
    "RowNumberEncoder(MinimalGridEncoder())",
    "CoordinateEncoder()",
    "GridCodeBlockEncoder(MinimalGridEncoder())",
    "GridShapeEncoder(MinimalGridEncoder())",
)
NESTED_EXAMPLES: Final = (
    "GridShapeEncoder(RowNumberEncoder(ReplaceNumberEncoder(MinimalGridEncoder())))",
    "RowNumberEncoder(ReplaceNumberEncoder(GridWithSeparationEncoder(separator=' '), symbols='abcdefghij'))",
)

REFUSED_EXAMPLES: Final = (
    (Refusal.EMPTY, "MinimalGridEncoder()", "", "no cell at all, or a row without one"),
    (Refusal.BAD_CELL, "MinimalGridEncoder()", "12\n3x", "a cell that is no colour"),
    (Refusal.RAGGED, "MinimalGridEncoder()", "12\n3", "rows of different lengths"),
    (Refusal.TOO_LARGE, "MinimalGridEncoder()", "1" * 31, "more than 30 rows or columns"),
    (Refusal.NO_CODE_BLOCK, "GridCodeBlockEncoder(MinimalGridEncoder())", "12\n34", "the fences are missing"),
    (
        Refusal.WRONG_SHAPE,
        "GridShapeEncoder(MinimalGridEncoder())",
        "```grid shape: 3x2\n12\n34\n```",
        "not the shape declared",
    ),
    (Refusal.WRONG_ROW_NUMBER, "RowNumberEncoder(MinimalGridEncoder())", "1 12\n3 34", "a row with another's number"),
    (Refusal.WRONG_COLUMN, "CoordinateEncoder()", "1:a1c2", "a cell with another column's letter"),
)

_INTRODUCTION: Final = """\
<!-- Written by `make docs` from arc_engine/prompts/documentation.py. -->
# Prompts and grid encoders

How a task is written for the model: `settings.prompt.version` is the layout, `settings.prompt.grid_encoder` the
notation of the grids in it. Both must be what the base model was fine-tuned with. A base model can say which notation
that is, as `grid_encoder` in its `tokenizer_config.json`; jobs that name none are then written in it.

A prompt is a list of segments, each of them context or the answer with a number, tokenised one by one: training knows
the tokens of every answer, and sampling sees the very tokens that training saw
([ADR 2](adr/0002-prompts-are-segments.md)). Below, «answers» stand between guillemets, which are not part of the text.
`adaptation.examples.loss_on` says which of them are targets of the loss. A job asks for the last one: the prompt ends
where it begins.

A tokenizer that cannot write the grids fails the job with `encoder_unsupported` before any training, one that cannot
write the rest with `prompt_unsupported`.
"""

_COMPACT: Final = """\
One marker before every grid. `<bos>` and `<eos>` are the tokenizer's own beginning and end of text; the first may be
missing. One token per cell with `MinimalGridEncoder()` and a tokenizer that keeps digits apart: the layout for small
and trimmed vocabularies. The default."""

_CHAT: Final = """\
In words, as a conversation, for instruction-tuned models: system, user and assistant through the tokenizer's own chat
template, here ChatML, that of SmolLM2 and Qwen2. The outputs in the user's turn are answers too, but only the
assistant's is closed: by what the template writes after it, up to its first special token, where sampling stops. A
template without a system role has the system's text at the head of the user's; one that writes the date writes the
first of January 2025."""

_INPUTS: Final = """\
For `arcadapt finetune-base` only: the inputs of a task in a row, every one to be predicted from those before it. It
teaches what grids of one task have in common."""

_ENCODERS: Final = """\
Encoders are nested as in Python and parsed by a whitelist; nothing is evaluated. The names, but for
`CoordinateEncoder`, follow the [arc24](https://github.com/ironbar/arc24) solution. `MinimalGridEncoder`,
`GridWithSeparationEncoder` and
`RepeatNumberEncoder` write cells; `ReplaceNumberEncoder` wraps one of these, `RowNumberEncoder` one of the four,
`GridCodeBlockEncoder` and `GridShapeEncoder` any of the five or `CoordinateEncoder`. Symbols that no argument names are
those of arc24. All examples show the same grid of 2 rows and 3 columns."""

_REFUSALS: Final = """\
An answer is a grid or it is refused for a reason; nothing is repaired. `GET /jobs/{id}` counts the reasons in
`usage.refusals`; refused answers count against an attempt's confidence."""


def render() -> str:
    """The whole page."""
    versions = [
        ("compact", _COMPACT, _shown(_compact(TASK), start="<bos>", end="<eos>")),
        ("chat", _CHAT, _shown(_chat(TASK), end="<|im_end|>")),
        ("input-from-inputs", _INPUTS, _shown(_inputs(TASK), start="<bos>", end="<eos>")),
    ]
    return "\n".join(
        [
            _INTRODUCTION,
            "## Prompt versions\n",
            *(f"### `{name}`\n\n{description}\n\n{_block(example)}" for name, description, example in versions),
            f"## Grid encoders\n\n{_ENCODERS}\n",
            *map(_encoder, ENCODER_EXAMPLES),
            "### Nested\n",
            *map(_nested, NESTED_EXAMPLES),
            f"## Refused answers\n\n{_REFUSALS}\n\n{_refusals()}",
        ]
    )


def _compact(pairs: Sequence[Pair]) -> list[Segment]:
    return training_segments(CompactLayout(Ends((), ())), pairs, encoder=parse_encoder("MinimalGridEncoder()"))


def _chat(pairs: Sequence[Pair]) -> list[Segment]:
    encoder = parse_encoder("GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder()))")
    return training_segments(ChatLayout(CHATML, Ends((), ())), pairs, encoder=encoder)


def _inputs(pairs: Sequence[Pair]) -> list[Segment]:
    return render_inputs(pairs, encoder=parse_encoder("MinimalGridEncoder()"))


def _shown(segments: Sequence[Segment], *, start: str = "", end: str) -> str:
    """The text, with guillemets around its answers."""
    text = start
    for segment in segments:
        text += segment.text if segment.answer is None else f"«{segment.text}{end if segment.closed else ''}»"
    return text


def _block(text: str) -> str:
    return f"````text\n{text}\n````\n"


def _encoder(expression: str) -> str:
    name = expression.partition("(")[0]
    description = f"{inspect.getdoc(ENCODERS[name])}\n\n`{expression}`:\n"
    return f"### `{name}`\n\n{description}\n{_block(parse_encoder(expression).encode(GRID))}"


def _nested(expression: str) -> str:
    return f"`{expression}`:\n\n{_block(parse_encoder(expression).encode(GRID))}"


def _refusals() -> str:
    rows = [
        f"| `{reason}` | {meaning} | `{expression}` | `` {text!r} `` |"
        for reason, expression, text, meaning in REFUSED_EXAMPLES
    ]
    header = ["| reason | what is wrong | for example with | the answer |", "|---|---|---|---|"]
    last = f"| `{Refusal.UNFINISHED}` | no end within `sampling.max_new_tokens` | any encoder | |"
    return "\n".join([*header, *rows, last]) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
