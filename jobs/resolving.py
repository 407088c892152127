"""Settings as they are stored: what the base model decides filled in."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from arc_engine.settings import AdaptationSettings, SolveSettings
from jobs.errors import SettingsConflict
from jobs.models import BaseModelRow

_ADAPTATION: Final = "/settings/adaptation"
_CONFIG_KEYS: Final = {
    "lora_rank": "r",
    "lora_alpha": "lora_alpha",
    "use_rslora": "use_rslora",
    "target_modules": "target_modules",
}
"""Our settings by what PEFT calls them."""


def resolve_settings(settings: SolveSettings, base_model: BaseModelRow) -> SolveSettings:
    """The settings under which jobs on this base model run: `start` continue takes the base adapter's own shape.

    Raises `SettingsConflict`, with pointers into the request, where there is no adapter to go on with, or where the
    settings ask for another shape than it has.
    """
    adaptation = settings.adaptation
    if adaptation is None or adaptation.start != "continue":
        return settings
    shape = _shape(base_model)
    faults = [
        (f"{_ADAPTATION}/{name}", f"start continue goes on with the base adapter, whose {name} is {value}")
        for name, value in shape.items()
        if name in adaptation.model_fields_set and _comparable(getattr(adaptation, name)) != _comparable(value)
    ]
    if faults:
        raise SettingsConflict(tuple(faults))
    try:
        continued = AdaptationSettings.model_validate({**adaptation.model_dump(mode="json"), **shape})
    except ValidationError as error:
        fault = error.errors()[0]
        raise _cannot_start(f"the base adapter has {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
    return settings.model_copy(update={"adaptation": continued})


def num_groups(settings: SolveSettings, *, num_tasks: int) -> int:
    """How many common adaptations a batch of so many tasks has."""
    last = group_index(settings, position=num_tasks - 1)
    return 0 if last is None else last + 1


def group_index(settings: SolveSettings, *, position: int) -> int | None:
    """Which common adaptation the task in this place of the request takes part in, if any."""
    adaptation = settings.adaptation
    if adaptation is None:
        return None
    if adaptation.scope == "groups":
        return position // adaptation.group_size
    return 0 if adaptation.scope == "shared" or adaptation.start == "warm" else None


def max_steps(settings: SolveSettings) -> int:
    """Most optimizer steps that a job sees, those that it shares with others included."""
    adaptation = settings.adaptation
    if adaptation is None:
        return 0
    return adaptation.max_steps + (adaptation.warmup.steps if adaptation.start == "warm" else 0)


def _shape(base_model: BaseModelRow) -> Mapping[str, Any]:
    if base_model.adapter_source is None:
        raise _cannot_start(f"base model {base_model.name} is registered without an adapter to go on with")
    config = base_model.adapter_config
    if config is None:
        detail = f": {base_model.error}" if base_model.error else ""
        raise _cannot_start(f"no worker has read the adapter of {base_model.name} yet{detail}")
    return {name: config.get(key, AdaptationSettings.model_fields[name].default) for name, key in _CONFIG_KEYS.items()}


def _cannot_start(message: str) -> SettingsConflict:
    return SettingsConflict(((f"{_ADAPTATION}/start", message),))


def _comparable(value: object) -> object:
    return frozenset(value) if isinstance(value, list | tuple) else value
