"""The settings of one job: the root of the tree."""

from typing import Final

from pydantic import Field

from arc_engine.settings.adaptation import AdaptationSettings
from arc_engine.settings.model import Settings
from arc_engine.settings.prompt import PromptSettings
from arc_engine.settings.sampling import SamplingSettings
from arc_engine.settings.selection import SelectionSettings

DEFAULT_BASE_MODEL: Final = "arc-mini"
BUNDLED_BASE_MODELS: Final = (DEFAULT_BASE_MODEL, "arc-mini-ft")
"""What comes with the package; these names mean the same in every installation."""


class SolveSettings(Settings):
    """The settings of one job."""

    base_model: str = Field(
        default=DEFAULT_BASE_MODEL,
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
        description="Name of a registered base model.",
    )
    adaptation: AdaptationSettings | None = Field(
        default_factory=AdaptationSettings,
        description="null answers with the base model as it is: the baseline that adaptation is measured against.",
    )
    prompt: PromptSettings = Field(default_factory=PromptSettings)
    sampling: SamplingSettings = Field(default_factory=SamplingSettings)
    selection: SelectionSettings = Field(default_factory=SelectionSettings)
