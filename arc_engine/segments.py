"""What a prompt is made of."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a prompt. `answer` counts the outputs from 0; None marks context that is never a target.

    A `closed` answer is followed by the layout's end token, which belongs to it; one that is not is followed by the
    layout's own text. Context is never closed.
    """

    text: str
    answer: int | None = None
    closed: bool = True
