"""What pydantic found, as places and messages that a client can use."""

from collections.abc import Iterator
from typing import Final

from pydantic import ValidationError

_PREFIXES: Final = ("Value error, ", "Assertion failed, ")
_KEY_MARK: Final = "[key]"


def faults_of(error: ValidationError) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Each fault's place, as steps into the document, and what is wrong there."""
    for details in error.errors(include_url=False, include_input=False):
        message = details["msg"]
        for prefix in _PREFIXES:
            message = message.removeprefix(prefix)
        yield tuple(token for token in details["loc"] if token != _KEY_MARK), message
