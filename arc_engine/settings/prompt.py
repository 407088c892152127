"""How a task is written for the model."""

from typing import Annotated

from pydantic import AfterValidator, Field

from arc_engine.encoders import parse_encoder
from arc_engine.prompts import PromptVersion
from arc_engine.settings.model import Settings


def _known_encoder(expression: str) -> str:
    parse_encoder(expression)
    return expression


GridEncoderName = Annotated[str, AfterValidator(_known_encoder)]
"""A text that `parse_encoder` reads."""


class PromptSettings(Settings):
    """How the task is written for the model."""

    version: PromptVersion = Field(
        default="compact",
        description="Layout of the prompt: compact has one marker per grid; chat is verbose and goes through the "
        "tokenizer's chat template.",
    )
    grid_encoder: GridEncoderName | None = Field(
        default=None,
        description="Nested encoders, for example GridShapeEncoder(RowNumberEncoder(MinimalGridEncoder())); unset: the "
        "one that the base model's tokenizer_config.json names, else MinimalGridEncoder().",
    )
