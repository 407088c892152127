"""JSON text to values, refusing what JSON forbids, what Python lets through, and what Postgres cannot store."""

import json
import math
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from api.problems import Fault, Problem, invalid_request, pointer_to

MAX_DEPTH: Final = 32
"""Deepest nesting that is read; a task needs seven levels."""

_CONTAINERS: Final = (dict, list)
_UNSTORABLE: Final = frozenset("\0")


def parse_document(body: bytes) -> object:
    """The value that `body` writes down.

    Raises `Problem` with code `invalid_json` for what is not JSON (RFC 8259) in UTF-8, NaN and infinities and repeated
    names included, and `invalid_request` where a text holds NUL or half a surrogate pair.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Problem("invalid_json", f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Problem("invalid_json", f"the body is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        # Ours from the hooks, or Python's refusal to read an integer of thousands of digits.
        raise Problem("invalid_json", f"the body is not JSON that can be read: {error}") from None
    _check_depth(value)
    if "\\u" in text:  # raw control characters and surrogates are refused above; only an escape can bring one in
        faults = [Fault(pointer, "text cannot hold NUL or half a surrogate pair") for pointer in _unstorable(value)]
        if faults:
            raise invalid_request(faults)
    return value


def _refuse_constant(literal: str) -> NoReturn:
    raise ValueError(f"{literal} is not a JSON number")


def _finite(literal: str) -> float:
    number = float(literal)
    if math.isinf(number):
        raise ValueError(f"{literal:.40} is too large a number")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        repeated = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the name {repeated!r:.100} stands twice in one object")
    return members


def _too_deep() -> Problem:
    return Problem("invalid_json", f"the body is nested deeper than {MAX_DEPTH} levels")


def _check_depth(value: object) -> None:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if type(child) in _CONTAINERS
        ]
        if not level:
            return
    raise _too_deep()


def _unstorable(value: object, *path: str | int) -> Iterator[str]:
    """Pointers to the texts, names included, that are not Unicode text without NUL."""
    match value:
        case str() if not _is_storable(value):
            yield pointer_to(*path)
        case dict():
            for name, child in value.items():
                if _is_storable(name):
                    yield from _unstorable(child, *path, name)
                else:
                    yield pointer_to(*path, name.encode("utf-8", "replace").decode())
        case list():
            for index, child in enumerate(value):
                yield from _unstorable(child, *path, index)


def _is_storable(text: str) -> bool:
    return _UNSTORABLE.isdisjoint(text) and not any("\ud800" <= character <= "\udfff" for character in text)
