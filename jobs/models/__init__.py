"""The tables.

Times are the database's own (`clock_timestamp()`), never a worker's: two machines need not agree on the hour for a
lease to be safe. JSON columns hold what the engine's types write with `to_json`.
"""

from jobs.models.base import Base, JsonObject
from jobs.models.base_models import BaseModelRow
from jobs.models.common_adaptations import CommonAdaptationRow
from jobs.models.jobs import Batch, Experiment, Job, OutboxRow
from jobs.models.records import AdapterRow, CandidateRow, EventRow, StepRow

__all__ = [
    "AdapterRow",
    "Base",
    "BaseModelRow",
    "Batch",
    "CandidateRow",
    "CommonAdaptationRow",
    "EventRow",
    "Experiment",
    "Job",
    "JsonObject",
    "OutboxRow",
    "StepRow",
]
