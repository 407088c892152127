"""The ARC task, and the wall between what may be trained on and what may only be scored against.

`Task` has no place to put a test output: whatever a client sends there goes to `Solution`, a type that training never
receives.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arc_engine.errors import InvalidTask
from arc_engine.grids import Grid, parse_grid

MAX_TRAIN_PAIRS = 30
MAX_TEST_INPUTS = 10


@dataclass(frozen=True, slots=True)
class Pair:
    """An input grid and the output grid that belongs to it."""

    input: Grid
    output: Grid


@dataclass(frozen=True, slots=True)
class Task:
    """Demonstration pairs and test inputs. Test outputs are not part of it."""

    train: tuple[Pair, ...]
    test: tuple[Grid, ...]

    def to_json(self) -> dict[str, Any]:
        """The task in ARC's own JSON form, without test outputs."""
        return {
            "train": [{"input": _rows(pair.input), "output": _rows(pair.output)} for pair in self.train],
            "test": [{"input": _rows(grid)} for grid in self.test],
        }


@dataclass(frozen=True, slots=True)
class Solution:
    """The true output per test input, None where the client did not say. For scoring only."""

    outputs: tuple[Grid | None, ...]

    @property
    def known(self) -> bool:
        """Whether every test output is there, so that the task can be scored."""
        return all(grid is not None for grid in self.outputs)

    def to_json(self) -> list[list[list[int]] | None]:
        """One list of rows, or None, per test input."""
        return [None if grid is None else _rows(grid) for grid in self.outputs]


def parse_task(value: object, *, pointer: str = "") -> tuple[Task, Solution]:
    """Checks ARC task JSON and splits it into what may be trained on and what may be scored against.

    Raises `InvalidTask` with the JSON pointer of the first fault found.
    """
    fields = _fields(value, pointer=pointer, required=("train", "test"), optional=("name",))
    train = _items(fields["train"], pointer=f"{pointer}/train", limit=MAX_TRAIN_PAIRS, what="demonstration pairs")
    test = _items(fields["test"], pointer=f"{pointer}/test", limit=MAX_TEST_INPUTS, what="test inputs")
    pairs = tuple(_parse_pair(item, pointer=f"{pointer}/train/{i}") for i, item in enumerate(train))
    tests = [_parse_test(item, pointer=f"{pointer}/test/{i}") for i, item in enumerate(test)]
    return Task(pairs, tuple(grid for grid, _ in tests)), Solution(tuple(output for _, output in tests))


def _parse_pair(value: object, *, pointer: str) -> Pair:
    fields = _fields(value, pointer=pointer, required=("input", "output"))
    return Pair(
        parse_grid(fields["input"], pointer=f"{pointer}/input"),
        parse_grid(fields["output"], pointer=f"{pointer}/output"),
    )


def _parse_test(value: object, *, pointer: str) -> tuple[Grid, Grid | None]:
    fields = _fields(value, pointer=pointer, required=("input",), optional=("output",))
    output = fields.get("output")
    solved = None if output is None else parse_grid(output, pointer=f"{pointer}/output")
    return parse_grid(fields["input"], pointer=f"{pointer}/input"), solved


def _fields(
    value: object, *, pointer: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise InvalidTask(pointer, f"expected an object with {', '.join(required)}")
    for name in required:
        if name not in value:
            raise InvalidTask(f"{pointer}/{name}", "is missing")
    for name in value:
        if name not in required and name not in optional:
            raise InvalidTask(f"{pointer}/{escape_pointer(str(name))}", "is not a field of an ARC task")
    return value


def _items(value: object, *, pointer: str, limit: int, what: str) -> list[object]:
    if not isinstance(value, list):
        raise InvalidTask(pointer, f"expected a list of {what}")
    if not 1 <= len(value) <= limit:
        raise InvalidTask(pointer, f"a task has 1 to {limit} {what}, this one has {len(value)}")
    return value


def escape_pointer(token: str) -> str:
    """One reference token of a JSON pointer (RFC 6901, section 3).

    Half a surrogate pair, which JSON can hold and UTF-8 cannot, is shown as a backslash escape.
    """
    return token.replace("~", "~0").replace("/", "~1").encode("utf-8", "backslashreplace").decode("utf-8")


def _rows(grid: Grid) -> list[list[int]]:
    return [list(row) for row in grid]
