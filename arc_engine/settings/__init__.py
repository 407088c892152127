"""Everything a client may say about how a task is solved.

One tree of pydantic models: the API validates it, the job's row stores it with every default filled in, the worker
reads it back. Unknown fields are refused. Where a default comes from somebody's work, the description names it.
"""

from arc_engine.settings.adaptation import (
    MAX_SHIFTING_RANK,
    AdaptationSettings,
    AugmentationSettings,
    ExampleSettings,
    LeaveOneOut,
    LossOn,
    ModuleName,
    Precision,
    SchedulerName,
    Scope,
    Start,
    WarmupSettings,
)
from arc_engine.settings.model import Seed
from arc_engine.settings.prompt import GridEncoderName, PromptSettings
from arc_engine.settings.sampling import (
    MAX_ANSWERS_PER_INPUT,
    BackendSetting,
    SamplingMethod,
    SamplingSettings,
    WhenTooLong,
)
from arc_engine.settings.selection import RESCORING, SelectionMethod, SelectionSettings
from arc_engine.settings.solve import BUNDLED_BASE_MODELS, DEFAULT_BASE_MODEL, SolveSettings

__all__ = [
    "BUNDLED_BASE_MODELS",
    "DEFAULT_BASE_MODEL",
    "MAX_ANSWERS_PER_INPUT",
    "MAX_SHIFTING_RANK",
    "RESCORING",
    "AdaptationSettings",
    "AugmentationSettings",
    "BackendSetting",
    "ExampleSettings",
    "GridEncoderName",
    "LeaveOneOut",
    "LossOn",
    "ModuleName",
    "Precision",
    "PromptSettings",
    "SamplingMethod",
    "SamplingSettings",
    "SchedulerName",
    "Scope",
    "Seed",
    "SelectionMethod",
    "SelectionSettings",
    "SolveSettings",
    "Start",
    "WarmupSettings",
    "WhenTooLong",
]
