"""A client's side of jobs and batches: reading, paging, cancelling."""

from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import inspect, update

from jobs.database import SessionFactory, transaction
from jobs.errors import InvalidCursor, NotFound
from jobs.models import Job
from jobs.repositories import BatchRepository, EventRepository, JobFilters, JobRepository
from jobs.repositories.cursors import decode
from jobs.states import Phase, Status
from tests.fixtures.records import (
    RESULTS,
    adapted_job,
    claim_adapting,
    claim_sampling,
    finish_sampling,
    read_job,
    submit_jobs,
)


def test_what_does_not_exist_is_not_found(database: SessionFactory):
    with transaction(database) as session:
        for read in (JobRepository(session).get, JobRepository(session).request_cancel, BatchRepository(session).get):
            with pytest.raises(NotFound):
                read(uuid4())


def test_pages_hold_every_job_once_newest_first_though_jobs_are_added_meanwhile(database: SessionFactory):
    job_ids = submit_jobs(database, 7)
    seen, cursor = [], None
    for _ in range(4):
        with transaction(database) as session:
            page = JobRepository(session).list(cursor=cursor, limit=2)
        seen += [job.id for job in page.items]
        cursor = page.next_cursor
        submit_jobs(database)
    assert cursor is None
    assert seen == job_ids[::-1]


def test_a_full_last_page_has_no_next(database: SessionFactory):
    submit_jobs(database, 2)
    with transaction(database) as session:
        assert JobRepository(session).list(limit=2).next_cursor is None
        assert JobRepository(session).list(limit=1).next_cursor is not None


def test_jobs_are_found_by_status_batch_task_and_time(database: SessionFactory):
    first, second = submit_jobs(database, 2)
    done = adapted_job(database)
    finish_sampling(database, claim_sampling(database, done))
    claim_adapting(database, second)

    def found(**filters) -> list[object]:
        with transaction(database) as session:
            return [job.id for job in JobRepository(session).list(JobFilters(**filters)).items]

    assert found(status=Status.QUEUED) == [first]
    assert found(status=Status.RUNNING) == [second]
    assert found(status=Status.SUCCEEDED) == [done]
    assert found(status=Status.FAILED) == []
    assert found(batch_id=read_job(database, first).batch_id) == [second, first]
    assert found(task_id="task-1") == [second]
    created_at = read_job(database, second).created_at
    assert found(created_after=created_at) == [done, second]
    assert found(created_before=created_at) == [first]
    assert found(created_after=created_at, created_before=created_at + timedelta(microseconds=1)) == [second]


@given(st.text(max_size=80))
def test_no_text_but_ours_is_a_cursor(cursor: str):
    with pytest.raises(InvalidCursor):
        decode(cursor)


@pytest.mark.parametrize("make", [lambda database: submit_jobs(database)[0], adapted_job])
def test_a_waiting_job_is_cancelled_at_once(database: SessionFactory, make):
    job_id = make(database)
    with transaction(database) as session:
        job = JobRepository(session).request_cancel(job_id)
        assert (job.phase, job.finished_at is not None) == (Phase.CANCELLED, True)
    with transaction(database) as session:
        assert JobRepository(session).request_cancel(job_id).finished_at == job.finished_at


@pytest.mark.parametrize("phase", [Phase.ADAPTING, Phase.SAMPLING])
def test_the_worker_of_a_running_job_is_asked_to_stop(database: SessionFactory, phase: Phase):
    if phase is Phase.ADAPTING:
        (job_id,) = submit_jobs(database)
        claim_adapting(database, job_id)
    else:
        job_id = adapted_job(database)
        claim_sampling(database, job_id)
    for _ in range(2):
        with transaction(database) as session:
            job = JobRepository(session).request_cancel(job_id)
            assert (job.phase, job.cancel_requested) == (phase, True)
    with transaction(database) as session:
        kinds = [event.kind for event in EventRepository(session).list(job_id)]
    assert kinds.count("cancel_requested") == 1


def test_a_finished_job_stays_as_it_is(database: SessionFactory):
    job_id = adapted_job(database)
    finish_sampling(database, claim_sampling(database, job_id))
    with transaction(database) as session:
        job = JobRepository(session).request_cancel(job_id)
        assert (job.phase, job.cancel_requested) == (Phase.SUCCEEDED, False)


def test_a_batch_counts_its_jobs_by_status(database: SessionFactory):
    job_ids = submit_jobs(database, 4, name="four")
    claim_adapting(database, job_ids[1])
    with transaction(database) as session:
        JobRepository(session).request_cancel(job_ids[2])
    batch_id = read_job(database, job_ids[0]).batch_id
    submit_jobs(database)
    with transaction(database) as session:
        batches = BatchRepository(session)
        assert batches.get(batch_id).name == "four"
        assert [job.id for job in batches.jobs(batch_id)] == job_ids
        assert batches.counts(batch_id) == {
            Status.QUEUED: 2,
            Status.RUNNING: 1,
            Status.SUCCEEDED: 0,
            Status.FAILED: 0,
            Status.CANCELLED: 1,
        }


def test_lists_leave_out_what_is_long(database: SessionFactory):
    submit_jobs(database)
    with transaction(database) as session:
        (listed,) = JobRepository(session).list().items
        (of_batch,) = BatchRepository(session).jobs(listed.batch_id)
        assert listed is of_batch
        assert inspect(listed).unloaded >= {"task", "solution", "settings", "versions", "results", "usage", "adapter"}
        assert len(listed.settings) > 1  # there on access


def test_standings_are_scores_and_answers_are_grids(database: SessionFactory):
    done = adapted_job(database)
    finish_sampling(database, claim_sampling(database, done))
    waiting, unknown = submit_jobs(database, 2)
    with transaction(database) as session:
        session.execute(update(Job).where(Job.id == unknown).values(solution=[None, [[1]]]))
    found, answered = [], []
    for job_id in (done, waiting):
        with transaction(database) as session:
            batches = BatchRepository(session)
            batch_id = JobRepository(session).get(job_id).batch_id
            found += [
                (standing.job.id, list(standing.correct), standing.num_test_inputs, standing.can_be_scored)
                for standing in batches.standings(batch_id)
            ]
            answered += [
                (answers.phase, answers.test, answers.num_test_inputs) for answers in batches.answers(batch_id)
            ]
    assert found == [(done, [True], 1, True), (waiting, [], 1, True), (unknown, [], 2, False)]
    assert answered == [(Phase.SUCCEEDED, RESULTS["test"], 1), (Phase.QUEUED, None, 1), (Phase.QUEUED, None, 2)]


def test_events_can_be_read_from_where_one_stopped(database: SessionFactory):
    (job_id,) = submit_jobs(database)
    with transaction(database) as session:
        EventRepository(session).append(job_id, attempt=0, kind="note", text="seen")
    with transaction(database) as session:
        first, note = EventRepository(session).list(job_id)
        assert EventRepository(session).list(job_id, after=first.id) == [note]
        assert (note.kind, note.data) == ("note", {"text": "seen"})
