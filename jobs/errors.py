"""What can go wrong with the job record.

    JobsError
    ├── ConfigurationError (ValueError)   the environment does not say what the service needs
    ├── NotFound (LookupError)            no such job, batch, ...
    │   ├── UnknownBaseModel              no base model registered under this name
    │   ├── NoAdapter                     the job has no adapter (yet, or at all)
    │   └── ArtifactMissing               the row is there, its file is not
    ├── InvalidTransition                 the job cannot go from this phase to that one
    ├── StaleClaim                        the job was taken from this worker; whatever it writes is refused
    ├── StaleCommonClaim                  the same of a common adaptation; the worker may still hold its job
    ├── IdempotencyConflict               the key was used before, for another request
    ├── SettingsConflict (ValueError)     the settings do not go with the base model that they name
    ├── CommonAdaptationFailed            the training that the job shares with others failed
    ├── InvalidCursor (ValueError)        not a page cursor of ours
    ├── InvalidAdapterZip (ValueError)    not an adapter archive of ours
    └── BrokerUnavailable (ConnectionError)  doorbells cannot be rung now; the relay will ring them later

Every one carries a stable `code` and survives pickling: exceptions cross process borders in workers.
"""

from typing import ClassVar
from uuid import UUID


class JobsError(Exception):
    """Base of everything that the job record raises on purpose."""

    code: ClassVar[str] = "jobs_error"


class ConfigurationError(JobsError, ValueError):
    """The environment lacks or garbles settings; `problems` names each one."""

    code = "configuration_error"

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "; ".join(self.problems)


class NotFound(JobsError, LookupError):
    """There is no `kind` with this id."""

    code = "not_found"

    def __init__(self, kind: str, name: UUID | str) -> None:
        super().__init__(kind, name)
        self.kind = kind
        self.name = name

    def __str__(self) -> str:
        return f"there is no {self.kind} {self.name}"


class UnknownBaseModel(NotFound):
    """No base model is registered under this name."""

    code = "unknown_base_model"

    def __init__(self, name: str) -> None:
        super().__init__("base model", name)
        self.args = (name,)  # what pickling hands to __init__


class NoAdapter(NotFound):
    """The job has no adapter: not yet adapted, or told to answer without adaptation."""

    code = "no_adapter"

    def __init__(self, job_id: UUID) -> None:
        super().__init__("adapter of job", job_id)
        self.args = (job_id,)
        self.job_id = job_id


class ArtifactMissing(NotFound):
    """The artifact store has no file under this key."""

    code = "artifact_missing"

    def __init__(self, key: str) -> None:
        super().__init__("artifact", key)
        self.args = (key,)
        self.key = key


class InvalidTransition(JobsError):
    """A job cannot go from `from_phase` to `to_phase`."""

    code = "invalid_transition"

    def __init__(self, job_id: UUID, from_phase: str, to_phase: str) -> None:
        super().__init__(job_id, from_phase, to_phase)
        self.job_id = job_id
        self.from_phase = from_phase
        self.to_phase = to_phase

    def __str__(self) -> str:
        return f"job {self.job_id} cannot go from {self.from_phase} to {self.to_phase}"


class StaleClaim(JobsError):
    """Attempt `attempt` no longer holds the job: its lease was given to another, or the job is over."""

    code = "stale_claim"

    def __init__(self, job_id: UUID, attempt: int) -> None:
        super().__init__(job_id, attempt)
        self.job_id = job_id
        self.attempt = attempt

    def __str__(self) -> str:
        return f"attempt {self.attempt} no longer holds job {self.job_id}"


class StaleCommonClaim(JobsError):
    """Attempt `attempt` no longer holds a batch's common adaptation: it was given to another worker, or is over."""

    code = "stale_common_claim"

    def __init__(self, batch_id: UUID, group_index: int, attempt: int) -> None:
        super().__init__(batch_id, group_index, attempt)
        self.batch_id = batch_id
        self.group_index = group_index
        self.attempt = attempt

    def __str__(self) -> str:
        return f"attempt {self.attempt} no longer holds common adaptation {self.group_index} of batch {self.batch_id}"


class IdempotencyConflict(JobsError):
    """The idempotency key belongs to an earlier, different request."""

    code = "idempotency_conflict"

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"idempotency key {self.key!r} was used for a different request"


class SettingsConflict(JobsError, ValueError):
    """The settings do not go with the base model that they name; `faults` are pairs of JSON pointer and message."""

    code = "settings_conflict"

    def __init__(self, faults: tuple[tuple[str, str], ...]) -> None:
        super().__init__(faults)
        self.faults = faults

    def __str__(self) -> str:
        return "; ".join(f"{pointer}: {message}" for pointer, message in self.faults)


class CommonAdaptationFailed(JobsError):
    """The training that the job shares with others ended with `cause`, the code of another error."""

    code = "common_adaptation_failed"

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(cause, message)
        self.cause = cause
        self.message = message

    def __str__(self) -> str:
        return self.message


class InvalidCursor(JobsError, ValueError):
    """The page cursor was not made by this service."""

    code = "invalid_cursor"


class InvalidAdapterZip(JobsError, ValueError):
    """The archive does not hold exactly the files of an adapter."""

    code = "invalid_adapter_zip"


class BrokerUnavailable(JobsError, ConnectionError):
    """The message broker cannot be reached. Nothing is lost: unsent doorbells stay in the outbox."""

    code = "broker_unavailable"
