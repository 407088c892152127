from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from api.schemas import JobDetail, Progress
from benchmarks.overhead_account import account, startup
from jobs.states import Phase, Status

pytestmark = pytest.mark.fast

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def job(*, started, adapted, finished, compute_s, sample_s):
    """A job that succeeded, with moments in seconds."""
    at = {
        name: None if moment is None else BEGAN + timedelta(seconds=moment)
        for name, moment in (("started_at", started), ("adapted_at", adapted), ("finished_at", finished))
    }
    return JobDetail(
        id=UUID(int=1),
        batch_id=UUID(int=2),
        task_id="task",
        status=Status.SUCCEEDED,
        phase=Phase.SUCCEEDED,
        progress=Progress(step=2, max_steps=2, eta_s=None),
        error=None,
        created_at=BEGAN,
        links={},
        attempts=2,
        cancel_requested=False,
        settings={},
        versions={},
        results=None,
        usage={"compute_s": compute_s, "sample_s": sample_s, "train_tokens": 100, "sampled_tokens": 10},
        **at,
    )


def test_one_thing_after_the_other():
    first = job(started=1, adapted=5, finished=14, compute_s=3, sample_s=1)
    second = job(started=6, adapted=10, finished=15, compute_s=3.5, sample_s=1)
    assert account([first, second])["per_job"] == {
        "wall_s": 7.0,
        "compute_s": 3.25,
        "sample_s": 1.0,
        "around_training_s": 0.75,
        "elsewhere_s": 2.0,
    }


def test_the_parts_come_to_the_whole():
    jobs = [job(started=n, adapted=n + 3, finished=20 + n, compute_s=0.5, sample_s=0.25) for n in range(4)]
    per_job = account(jobs)["per_job"]
    assert sum(seconds for name, seconds in per_job.items() if name != "wall_s") == pytest.approx(per_job["wall_s"])
    assert per_job["around_training_s"] == (6 - 4 * 0.5) / 4  # trained together from 0 to 6


def test_training_while_others_are_answered_leaves_less_than_nothing_elsewhere():
    first = job(started=0, adapted=4, finished=8, compute_s=4, sample_s=4)
    second = job(started=4, adapted=8, finished=10, compute_s=4, sample_s=2)
    assert account([first, second])["per_job"]["elsewhere_s"] == -2.0


def test_the_first_job_shows_what_the_start_takes():
    first = startup(job(started=0, adapted=20, finished=30, compute_s=8, sample_s=2))
    assert (first["adapting_s"], first["answering_s"], first["rest_s"]) == (20.0, 10.0, 20.0)


def test_a_record_without_its_times_is_refused():
    with pytest.raises(ValueError, match="lacks the time"):
        account([job(started=0, adapted=None, finished=2, compute_s=1, sample_s=1)])
