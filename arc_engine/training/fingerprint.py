"""By what a training run knows its recipe again."""

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from arc_engine.hashing import hash_text

_FREE_TO_CHANGE: Final = (
    "name",
    "max_steps",
    "hours",
    "checkpoint_every_s",
    "checkpoint_every_steps",
    "log_every_steps",
)


def fingerprint(recipe: BaseModel, *, free: Mapping[str, Any]) -> str:
    """The same for recipes that differ in their budget, in when they log and save, or in what is `free` besides.

    `free` is what pydantic's `exclude` takes.
    """
    fields = recipe.model_dump(mode="json", exclude={**dict.fromkeys(_FREE_TO_CHANGE, True), **free})
    return hash_text(json.dumps(fields, sort_keys=True))
