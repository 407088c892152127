"""Settings as people give them: a JSON or YAML file, and `--set adaptation.max_steps=50` on top.

Only the form is read here; what the settings mean is for the server to say, in one place.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from arc_engine.yaml_text import parse_yaml
from arcadapt.errors import InvalidOverride


def read_settings(path: Path | None, *, assignments: Sequence[str] = ()) -> dict[str, Any]:
    """The settings in the file, or none, with the assignments carried out in order.

    Raises `InvalidOverride` that names the file or the assignment at fault.
    """
    settings = {} if path is None else _read(path)
    for assignment in assignments:
        _assign(settings, assignment)
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
        loaded = json.loads(text) if path.suffix == ".json" else parse_yaml(text)
    except OSError as error:
        raise InvalidOverride(f"{path}: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise InvalidOverride(f"{path}: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise InvalidOverride(f"{path}: settings are an object of fields, not {type(loaded).__name__}")
    return loaded


def _assign(settings: dict[str, Any], assignment: str) -> None:
    name, equals, text = assignment.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise InvalidOverride(f"--set {assignment}: expected NAME=VALUE such as adaptation.max_steps=50")
    place = settings
    for depth, key in enumerate(keys[:-1], start=1):
        child = place.setdefault(key, {})
        if not isinstance(child, dict):
            raise InvalidOverride(f"--set {assignment}: {'.'.join(keys[:depth])} is {child!r} and has no fields")
        place = child
    place[keys[-1]] = _value(text.strip())


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
