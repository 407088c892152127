"""Putting training steps on record: of several jobs at a time, each of them fenced by its own claim."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from jobs.claims import ClaimedStep, StepFields

# One statement, hence one round trip and atomic by itself: the fences, the leases, the progress, the rows, the answers.
# Jobs are locked in the order in which everybody locks several of them. A step that is there already was written by the
# same claim, whose worker was not told.
_RECORD_STEPS: Final = text(
    """
    WITH claimed AS MATERIALIZED (
        SELECT jobs.id, latest.step, latest.eta_s
        FROM jobs JOIN unnest(
            CAST(:job_ids AS uuid[]), CAST(:attempts AS int[]), CAST(:owners AS text[]), CAST(:steps AS int[]),
            CAST(:etas_s AS float8[])
        ) AS latest (job_id, attempt, owner, step, eta_s)
        ON jobs.id = latest.job_id AND jobs.attempt = latest.attempt AND jobs.lease_owner = latest.owner
        WHERE jobs.phase = 'adapting'
        ORDER BY jobs.id
        FOR NO KEY UPDATE OF jobs
    ), held AS (
        UPDATE jobs
        SET step = claimed.step,
            eta_s = claimed.eta_s,
            lease_expires_at = clock_timestamp() + make_interval(secs => :lease_s)
        FROM claimed
        WHERE jobs.id = claimed.id
        RETURNING jobs.id, jobs.attempt, jobs.cancel_requested
    ), recorded AS (
        INSERT INTO training_steps (job_id, step, attempt, stage, loss, learning_rate, grad_norm, tokens, elapsed_s)
        SELECT held.id, kept.step, held.attempt, kept.stage, kept.loss, kept.learning_rate, kept.grad_norm, kept.tokens,
            kept.elapsed_s
        FROM held JOIN unnest(
            CAST(:kept_job_ids AS uuid[]), CAST(:kept_steps AS int[]), CAST(:stages AS text[]),
            CAST(:losses AS float8[]), CAST(:learning_rates AS float8[]), CAST(:grad_norms AS float8[]),
            CAST(:tokens AS int[]), CAST(:elapsed_s AS float8[])
        ) AS kept (job_id, step, stage, loss, learning_rate, grad_norm, tokens, elapsed_s)
        ON held.id = kept.job_id
        ON CONFLICT (job_id, step) DO NOTHING
    )
    SELECT id, cancel_requested FROM held
    """
)


def record_steps(session: Session, taken: Sequence[ClaimedStep], *, lease_s: float) -> Mapping[UUID, bool]:
    """Records the steps, and says by job whether its client asked to cancel; see `ClaimRepository.record_steps`."""
    for one in taken:
        _check_finite(one.step)
    parameters = {**_progress(taken), **_rows([one for one in taken if one.keep]), "lease_s": lease_s}
    return dict(session.execute(_RECORD_STEPS, parameters).tuples().all())


def _progress(taken: Sequence[ClaimedStep]) -> dict[str, list[Any]]:
    """Where each job has got to by these steps."""
    latest = {one.claim.job_id: one for one in taken}.values()
    return {
        "job_ids": [one.claim.job_id for one in latest],
        "attempts": [one.claim.attempt for one in latest],
        "owners": [one.claim.owner for one in latest],
        "steps": [one.step.step for one in latest],
        "etas_s": [one.eta_s for one in latest],
    }


def _rows(kept: Sequence[ClaimedStep]) -> dict[str, list[Any]]:
    return {
        "kept_job_ids": [one.claim.job_id for one in kept],
        "kept_steps": [one.step.step for one in kept],
        "stages": [one.stage.value for one in kept],
        "losses": [one.step.loss for one in kept],
        "learning_rates": [one.step.learning_rate for one in kept],
        "grad_norms": [one.step.grad_norm for one in kept],
        "tokens": [one.step.tokens for one in kept],
        "elapsed_s": [one.step.elapsed_s for one in kept],
    }


def _check_finite(step: StepFields) -> None:
    if not all(map(math.isfinite, (step.loss, step.grad_norm, step.learning_rate))):
        raise ValueError(f"step {step.step} is not finite: loss {step.loss}, gradient norm {step.grad_norm}")
