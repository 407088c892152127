"""docs/settings.md, written from the models of `arc_engine.settings`.

Everything in it is read from their JSON schema, which is also what the service publishes. To write the page anew:

    python -m arc_engine.settings_reference docs/settings.md
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from arc_engine.settings import SolveSettings

_Schema: TypeAlias = Mapping[str, Any]

INTRODUCTION: Final = """\
# Settings

Everything that a client may say about how a task is solved: `settings` of [`POST /solve`](api.md) and of
`Client.solve`, the file of `arcadapt solve --settings`, and `arcadapt solve --set adaptation.max_steps=50`. What is
not said has the default; what is unknown or out of range is refused when the job is submitted, with its place named.
The job keeps them with every default filled in, and `GET /jobs/{id}` shows them.

This page is generated from `arc_engine/settings/` by `python -m arc_engine.settings_reference docs/settings.md`.
Every setting in it has a test that shows what it changes, and that it changes nothing else (`tests/settings/`).
"""
_TYPES: Final = {"integer": "whole number", "number": "number", "string": "text", "array": "list of texts"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that a client may choose. `path` is dotted, `default` is JSON; the others are Markdown."""

    path: str
    values: str
    default: str
    description: str


@dataclass(frozen=True, slots=True)
class Section:
    """The settings of one model; `path` is where it stands among all settings, empty for the outermost."""

    path: str
    description: str
    settings: tuple[Setting, ...]


def sections() -> tuple[Section, ...]:
    """Every model of the tree, outer ones first, fields in the order of the code.

    A model is no setting by itself, unless it may be null.
    """
    schema = SolveSettings.model_json_schema()
    defaults = SolveSettings().model_dump(mode="json")
    return tuple(_sections(schema, path="", defaults=defaults, models=schema["$defs"]))


def paths() -> tuple[str, ...]:
    """The dotted path of every setting."""
    return tuple(setting.path for section in sections() for setting in section.settings)


def render() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(_page_section(section) for section in sections())])


def _sections(schema: _Schema, *, path: str, defaults: Any, models: _Schema) -> Iterator[Section]:  # noqa: ANN401 - JSON
    settings: list[Setting] = []
    nested: list[tuple[str, _Schema]] = []
    for name, field in schema["properties"].items():
        field_path = f"{path}.{name}" if path else name
        model, nullable = _model(field)
        if model is not None:
            nested.append((name, models[model]))
        if model is None or nullable:
            settings.append(_setting(field, path=field_path, default=defaults[name]))
    yield Section(path, schema["description"], tuple(settings))
    for name, inner in nested:
        inner_path = f"{path}.{name}" if path else name
        yield from _sections(inner, path=inner_path, defaults=defaults[name], models=models)


def _model(field: _Schema) -> tuple[str | None, bool]:
    """The model that the field holds, if any, and whether the field may be null."""
    options = field.get("anyOf", [field])
    models = [option["$ref"].rpartition("/")[2] for option in options if "$ref" in option]
    return (models[0] if models else None), {"type": "null"} in options


def _setting(field: _Schema, *, path: str, default: Any) -> Setting:  # noqa: ANN401 - JSON
    options = field.get("anyOf", [field])
    return Setting(
        path=path,
        values=" or ".join(_values(option) for option in options),
        default="see below" if isinstance(default, dict) else f"`{json.dumps(default)}`",
        description=field["description"],
    )


def _values(schema: _Schema) -> str:
    """What a value may be: `one`, `of`, `these`, or a type with its bounds."""
    if "$ref" in schema:
        return "object"
    if schema["type"] in {"null", "boolean"}:
        return {"null": "`null`", "boolean": "`true`, `false`"}[schema["type"]]
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    bounds = ", ".join([*_bounds(schema), *_lengths(schema)])
    return f"{_TYPES[schema['type']]}, {bounds}" if bounds else _TYPES[schema["type"]]


def _bounds(schema: _Schema) -> Iterator[str]:
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        yield f"above {schema['exclusiveMinimum']:,}"
    if lowest is not None:
        yield f"at least {lowest:,}"
    if "exclusiveMaximum" in schema:
        yield f"below {schema['exclusiveMaximum']:,}"
    if highest is not None:
        yield f"at most {int(highest) if highest == int(highest) else highest:,}"


def _lengths(schema: _Schema) -> Iterator[str]:
    if "maxLength" in schema:
        yield f"at most {schema['maxLength']} characters"
    if "pattern" in schema:
        yield f"matching `{schema['pattern']}`"
    if "minItems" in schema:
        yield "not empty"
    if "maxItems" in schema:
        yield f"at most {schema['maxItems']}"


def _page_section(section: Section) -> str:
    rows = [(f"`{s.path}`", s.values, s.default, s.description) for s in section.settings]
    heading = f"## `{section.path}`\n\n" if section.path else ""
    return heading + "\n\n".join([section.description, _table(("setting", "values", "default", "what it does"), rows)])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
