"""From an experiment's document to its cells, with every fault traced to the place in the document that it is from."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pydantic import JsonValue, ValidationError

from api.experiment_schemas import ExperimentRequest, Family
from api.problems import MAX_ERRORS, Fault, pointer_to
from api.validation import faults_of
from arc_engine.settings import SolveSettings

Path: TypeAlias = tuple[str | int, ...]
"""A place in the settings."""

NAME_WITHOUT_GRID: Final = "settings"
_SEEDS: Final[Sequence[Path]] = (("adaptation", "seed"), ("sampling", "seed"))


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of settings; seeds are still those of the defaults.

    `places` are the pointers into the document of what this cell sets, by its path in the settings.
    """

    name: str
    changes: Mapping[str, JsonValue]
    settings: SolveSettings
    places: Mapping[Path, str]
    family: str

    def pointer(self, path: Path) -> str:
        """Where in the document the setting at `path` was said, or would have been."""
        return _pointer(path, places=self.places, family=self.family)


def num_cells(request: ExperimentRequest) -> int:
    """How many cells there will be, known before they are made."""
    return sum(math.prod(map(len, family.grid.values())) for family, _ in _families(request))


def expand(request: ExperimentRequest, *, faults: list[Fault]) -> list[Cell]:
    """All cells in the order of the document. What is wrong with them is added to `faults`."""
    overlaps = [fault for family, pointer in _families(request) for fault in _overlaps(family, pointer)]
    if overlaps:
        faults += overlaps
        return []
    cells: list[Cell] = []
    found: dict[Fault, None] = {}  # in the order in which they are found, and each once
    num_refused = 0
    for family, pointer in _families(request):
        for changes, places in _combinations(family, pointer):
            wrong, settings = _settings(request.settings, changes, places=places, family=pointer)
            found.update(dict.fromkeys(wrong))
            num_refused += settings is None
            # Cells that all have the same fault say no more when there are thousands of them.
            if max(len(found), num_refused) >= MAX_ERRORS:
                faults += found
                return []
            if settings is not None:
                cells.append(Cell(_name(family, changes), changes, settings, places, pointer))
    faults += [*found, *_repeated(cells)]
    return cells


def _families(request: ExperimentRequest) -> Iterator[tuple[Family, str]]:
    """Each family with its pointer."""
    if not request.cells:
        # Not validated: a name of our own, which is empty where the grid's values say all.
        yield Family.model_construct(name="" if request.grid else NAME_WITHOUT_GRID, set={}, grid=request.grid), ""
    for index, family in enumerate(request.cells):
        yield family, pointer_to("cells", index)


def _overlaps(family: Family, pointer: str) -> list[Fault]:
    """Settings of a family of which one is or holds another: it would undo the other, whatever the cell is called."""
    places = [(_path(name), pointer + pointer_to("set", name)) for name in family.set]
    places += [(_path(name), pointer + pointer_to("grid", name)) for name in family.grid]
    said: dict[Path, str] = {}
    within: dict[Path, str] = {}
    faults = []
    for path, place in places:
        outer = (said[path[:length]] for length in range(1, len(path) + 1) if path[:length] in said)
        other = next(outer, None) or within.get(path)
        if other is not None:
            faults.append(Fault(place, f"{'.'.join(map(str, path))} overlaps with {other}"))
        said.setdefault(path, place)
        for length in range(1, len(path)):
            within.setdefault(path[:length], place)
    return faults


def _combinations(family: Family, pointer: str) -> Iterator[tuple[dict[str, JsonValue], dict[Path, str]]]:
    """What each cell of the family sets, and where the document says so."""
    fixed = {_path(name): pointer + pointer_to("set", name) for name in family.set}
    for indices in itertools.product(*(range(len(values)) for values in family.grid.values())):
        chosen = dict(zip(family.grid, indices, strict=True))
        changes = {**family.set, **{name: family.grid[name][index] for name, index in chosen.items()}}
        varied = {_path(name): pointer + pointer_to("grid", name, index) for name, index in chosen.items()}
        yield changes, {**fixed, **varied}


def _settings(
    base: Mapping[str, JsonValue], changes: Mapping[str, JsonValue], *, places: Mapping[Path, str], family: str
) -> tuple[list[Fault], SolveSettings | None]:
    values: dict[str, Any] = dict(base)
    for name, value in changes.items():
        fault = _assign(values, name, value, pointer=places[_path(name)])
        if fault is not None:
            return [fault], None
    message = "`seeds` says which seeds are used"
    seeds = [path for path in _SEEDS if isinstance(part := values.get(str(path[0])), dict) and path[1] in part]
    if seeds:
        return [Fault(_pointer(path, places=places, family=family), message) for path in seeds], None
    try:
        return [], SolveSettings.model_validate(values)
    except ValidationError as error:
        return [
            Fault(_pointer(path, places=places, family=family), message) for path, message in faults_of(error)
        ], None


def _assign(settings: dict[str, Any], name: str, value: JsonValue, *, pointer: str) -> Fault | None:
    """Sets one setting. Only what lies on its path is copied: all cells share the rest of the document."""
    place = settings
    keys = name.split(".")
    for depth, key in enumerate(keys[:-1], start=1):
        child = place.get(key, {})
        if not isinstance(child, dict):
            return Fault(pointer, f"{'.'.join(keys[:depth])} is {json.dumps(child):.100} and has no fields")
        place[key] = place = dict(child)
    place[keys[-1]] = value
    return None


def _pointer(path: Path, *, places: Mapping[Path, str], family: str) -> str:
    for length in range(len(path), 0, -1):
        if path[:length] in places:
            return places[path[:length]] + pointer_to(*path[length:])
    if any(place[: len(path)] == path for place in places):
        # Several settings disagree, and one of them at least is this family's.
        return family or "/grid"
    return pointer_to("settings", *path)


def _path(name: str) -> Path:
    return tuple(name.split("."))


def _name(family: Family, changes: Mapping[str, JsonValue]) -> str:
    short = [name.rpartition(".")[2] for name in family.grid]
    shown = [
        f"{last if short.count(last) == 1 else name}={_text(changes[name])}"
        for name, last in zip(family.grid, short, strict=True)
        if len(family.grid[name]) > 1 or not family.name
    ]
    return " ".join([family.name, *shown] if family.name else shown)


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _repeated(cells: Sequence[Cell]) -> list[Fault]:
    first: dict[str, Cell] = {}
    faults = []
    for cell in cells:
        if cell.name in first:
            faults.append(Fault(cell.family or "/grid", f"there are two cells named {cell.name!r}"))
        first.setdefault(cell.name, cell)
    return list(dict.fromkeys(faults))
