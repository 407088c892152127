"""Where a page of a list ended, as the text that clients send back."""

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, tuple_

from jobs.errors import InvalidCursor


@dataclass(frozen=True, slots=True)
class Place:
    """A row's place in a list that is ordered by time and id, newest first."""

    created_at: datetime
    id: UUID

    def is_after(self, created_at: Any, row_id: Any) -> ColumnElement[bool]:  # noqa: ANN401 - mapped columns
        """Whether a row with these columns comes after this place."""
        return tuple_(created_at, row_id) < (self.created_at, self.id)


def encode(place: Place) -> str:
    """The cursor for what comes after `place`."""
    text = f"{place.created_at.astimezone(UTC).isoformat()} {place.id}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str) -> Place:
    """Reads what `encode` wrote; raises `InvalidCursor`."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        created_at, row_id = base64.b64decode(padded, altchars=b"-_", validate=True).decode().split(" ")
        place = Place(datetime.fromisoformat(created_at), UUID(row_id))
    except (binascii.Error, ValueError) as error:
        raise InvalidCursor("not a cursor of this service") from error
    if place.created_at.tzinfo is None:
        raise InvalidCursor("not a cursor of this service")
    return place
