"""Prompts: how a task becomes the text that a language model continues.

A prompt is a list of segments. Segments are tokenised one by one (`arc_engine.tokens`), so that training and sampling
see the same tokens, and so that the tokens of every answer are known exactly and not searched for afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from arc_engine.encoders import GridEncoder
from arc_engine.grids import Grid
from arc_engine.tasks import Pair

PromptVersion = Literal["compact", "chat"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a prompt. `answer` counts the outputs from 0; None marks context that is never a target."""

    text: str
    answer: int | None = None


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
