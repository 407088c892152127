"""Prompts: how a task becomes the text that a language model continues.

A prompt is a list of segments. Segments are tokenised one by one (`arc_engine.tokens`), so that training and sampling
see the same tokens, and so that the tokens of every answer are known exactly and not searched for afterwards.
`arc_engine.prompts.writer` writes a prompt version with a tokenizer.
"""

from typing import Literal

from arc_engine.prompts.compact import render
from arc_engine.segments import Segment

__all__ = ["PromptVersion", "Segment", "render"]

PromptVersion = Literal["compact", "chat"]
