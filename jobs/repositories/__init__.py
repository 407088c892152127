"""All SQL. A repository works in the session it is given and never commits."""

from jobs.repositories.base_models import BaseModelRepository
from jobs.repositories.batches import BatchRepository
from jobs.repositories.claims import ClaimRepository
from jobs.repositories.common_adaptations import CommonAdaptationRepository
from jobs.repositories.experiments import ExperimentRepository
from jobs.repositories.jobs import JobFilters, JobPage, JobRepository
from jobs.repositories.outbox import OutboxRepository
from jobs.repositories.reaper import Reaped, ReaperRepository
from jobs.repositories.records import AdapterRepository, CandidateRepository, EventRepository, StepRepository

__all__ = [
    "AdapterRepository",
    "BaseModelRepository",
    "BatchRepository",
    "CandidateRepository",
    "ClaimRepository",
    "CommonAdaptationRepository",
    "EventRepository",
    "ExperimentRepository",
    "JobFilters",
    "JobPage",
    "JobRepository",
    "OutboxRepository",
    "Reaped",
    "ReaperRepository",
    "StepRepository",
]
