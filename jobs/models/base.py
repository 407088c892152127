"""What all tables have in common."""

from datetime import datetime
from typing import Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, Double, MetaData, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase

JsonObject = dict[str, Any]

NULLABLE_JSON: Final = JSONB(none_as_null=True)
_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


def finite(column: str) -> CheckConstraint:
    """Refuses NaN and the infinities."""
    # Postgres sorts NaN above infinity, so the upper bound refuses both.
    return CheckConstraint(f"{column} > '-Infinity' AND {column} < 'Infinity'", name=f"{column}_finite")


class Base(DeclarativeBase):
    """Parent of all tables."""

    metadata = MetaData(naming_convention=_NAMING)
    type_annotation_map: ClassVar = {
        datetime: DateTime(timezone=True),
        str: Text,
        float: Double,
        UUID: Uuid,
        JsonObject: JSONB,
        list[Any]: JSONB,
        list[int]: JSONB,
    }
