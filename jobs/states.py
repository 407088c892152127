"""The life of a job.

    queued ──> adapting ──> adapted ──> sampling ──> succeeded
       ^          │            ^           │
       └──────────┘            └───────────┘          a worker was lost, or shut down

Any of the first four may also end as `failed` or `cancelled`.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final
from uuid import UUID

from jobs.errors import InvalidTransition


class Phase(StrEnum):
    """Where exactly a job is."""

    QUEUED = "queued"
    ADAPTING = "adapting"
    ADAPTED = "adapted"
    SAMPLING = "sampling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Stage(StrEnum):
    """Which training a step belongs to: the one that the job shares with others, or its own."""

    COMMON = "common"
    TASK = "task"


class Status(StrEnum):
    """What a client sees of the phase. The last three are terminal."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED})
"""Phases that nothing leaves."""

HELD: Final = frozenset({Phase.ADAPTING, Phase.SAMPLING})
"""Phases in which a worker holds a lease."""

WAITING_PHASE: Final[Mapping[Phase, Phase]] = MappingProxyType(
    {Phase.ADAPTING: Phase.QUEUED, Phase.SAMPLING: Phase.ADAPTED}
)
"""Where a held job goes back to when its worker is lost."""

_ENDS = frozenset({Phase.FAILED, Phase.CANCELLED})
ALLOWED: Final[Mapping[Phase, frozenset[Phase]]] = MappingProxyType(
    {
        Phase.QUEUED: _ENDS | {Phase.ADAPTING},
        Phase.ADAPTING: _ENDS | {Phase.ADAPTED, Phase.QUEUED},
        Phase.ADAPTED: _ENDS | {Phase.SAMPLING},
        Phase.SAMPLING: _ENDS | {Phase.SUCCEEDED, Phase.ADAPTED},
        Phase.SUCCEEDED: frozenset(),
        Phase.FAILED: frozenset(),
        Phase.CANCELLED: frozenset(),
    }
)
"""Every phase a job may go to from each phase."""

_STATUS: Final[Mapping[Phase, Status]] = MappingProxyType(
    {
        Phase.QUEUED: Status.QUEUED,
        Phase.ADAPTING: Status.RUNNING,
        Phase.ADAPTED: Status.RUNNING,
        Phase.SAMPLING: Status.RUNNING,
        Phase.SUCCEEDED: Status.SUCCEEDED,
        Phase.FAILED: Status.FAILED,
        Phase.CANCELLED: Status.CANCELLED,
    }
)


def status_of(phase: Phase) -> Status:
    """The client's view of `phase`."""
    return _STATUS[phase]


FINISHED: Final = frozenset(_STATUS[phase] for phase in TERMINAL)
"""What a client sees of the phases that nothing leaves."""


def phases_of(status: Status) -> frozenset[Phase]:
    """Every phase that a client sees as `status`."""
    return frozenset(phase for phase, seen in _STATUS.items() if seen is status)


def check_transition(job_id: UUID, from_phase: Phase, to_phase: Phase) -> None:
    """Raises `InvalidTransition` unless `ALLOWED` has this step."""
    if to_phase not in ALLOWED[from_phase]:
        raise InvalidTransition(job_id, from_phase, to_phase)
