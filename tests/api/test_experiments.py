"""Experiments over HTTP: what is stored, in which order it is worked on, what the table and the curves say."""

import csv
import io
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from jobs.config import ServiceConfig
from jobs.database import SessionFactory, transaction
from jobs.errors import StaleClaim
from jobs.models import Batch, Experiment, Job, OutboxRow
from jobs.repositories import BaseModelRepository, ClaimRepository, ExperimentRepository, ReaperRepository
from jobs.repositories.base import lease_until
from jobs.repositories.experiments import Replaced
from tests.api.conftest import GRID, Found, Worker

Body = dict[str, Any]
WRONG = ((5,),)


@pytest.fixture
def body(task: Body) -> Body:
    return {
        "name": "ranks",
        "tasks": {"a": task, "b": task},
        "settings": {"adaptation": {"max_steps": 3}, "sampling": {"num_views": 4}},
        "grid": {"adaptation.lora_rank": [1, 8]},
        "seeds": [3, 4],
    }


@pytest.fixture
def create(client: TestClient) -> Callable[..., Body]:
    def create(body: Body, *, key: str | None = None, status: int = 202) -> Body:
        answer = client.post("/experiments", json=body, headers={} if key is None else {"Idempotency-Key": key})
        assert answer.status_code == status, answer.text
        return answer.json()

    return create


@pytest.fixture
def jobs_of(client: TestClient) -> Callable[..., list[str]]:
    """Ids of the jobs of one cell (all tasks) under one seed."""

    def jobs_of(experiment: Body, cell: int, seed: int) -> list[str]:
        batch = next(batch for batch in experiment["cells"][cell]["batches"] if batch["seed"] == seed)
        return [job["id"] for job in client.get(batch["links"]["self"]).json()["jobs"]]

    return jobs_of


def num_rows(database: SessionFactory, *tables: type[Any]) -> list[int]:
    with transaction(database) as session:
        return [session.scalar(select(func.count()).select_from(table)) or 0 for table in tables]


def succeed(worker: Worker, job_id: str, *, losses: list[float], votes: list[Found], first: Any = GRID) -> None:
    """A job whose answer to its one test input is these votes."""
    job = worker.claim(job_id)
    worker.train(job, losses)
    worker.finish_adapting(job)
    answer = {"attempt_1": first, "attempt_2": None, "confidence": 1.0, "correct": first == GRID}
    worker.finish_sampling(worker.claim_for_sampling(job_id), [answer], candidates=[votes])


def lose(database: SessionFactory, worker: Worker, job_id: str) -> None:
    """A job whose last worker is lost."""
    worker.claim(job_id)
    with transaction(database) as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=lease_until(-1.0)))
        ReaperRepository(session).reclaim_expired(max_attempts=1)


def test_every_cell_runs_every_task_under_every_seed(client: TestClient, create: Callable[..., Body], body: Body):
    experiment = create(body)
    assert [cell["name"] for cell in experiment["cells"]] == ["lora_rank=1", "lora_rank=8"]
    for cell, rank in zip(experiment["cells"], (1, 8), strict=True):
        assert cell["changes"] == {"adaptation.lora_rank": rank}
        assert (cell["counts"]["queued"], cell["max_steps"]) == (4, 12)
        assert [batch["seed"] for batch in cell["batches"]] == [3, 4]
        for batch in cell["batches"]:
            settings = client.get(batch["links"]["self"]).json()["settings"]
            assert settings["adaptation"]["lora_rank"] == rank
            assert settings["adaptation"]["max_steps"] == 3
            assert settings["adaptation"]["seed"] == settings["sampling"]["seed"] == batch["seed"]
    assert experiment["document"] == {name: value for name, value in body.items() if name != "tasks"}
    assert client.get(experiment["links"]["self"]).json() == experiment


def test_its_jobs_are_rung_for(create: Callable[..., Body], body: Body, database: SessionFactory):
    create(body)
    with transaction(database) as session:
        assert session.scalar(select(func.count()).where(OutboxRow.sent_at.is_not(None))) == 8


def test_workers_take_seed_after_seed_and_the_highest_rank_of_an_engine_first(
    create: Callable[..., Body], body: Body, database: SessionFactory
):
    cells = [
        {"name": "torch", "set": {"sampling.backend": "torch"}},
        {"name": "new", "grid": {"adaptation.lora_rank": [2, 8]}},
        {"name": "pissa", "set": {"adaptation.init": "pissa", "adaptation.lora_rank": 6}},
        {"name": "also torch", "set": {"sampling.backend": "torch", "adaptation": None}},
    ]
    del body["grid"]
    create({**body, "cells": cells, "tasks": {"a": body["tasks"]["a"]}})
    taken = []
    with transaction(database) as session:
        while job := ClaimRepository(session).claim_for_adapting(None, owner="w", lease_s=60):
            batch = session.get_one(Batch, job.batch_id)
            taken.append((batch.cell, batch.seed))
    # pissa's adapter has twice its rank once it is plain LoRA
    vllm = ["pissa", "new lora_rank=8", "new lora_rank=2"]
    assert taken == [
        *[(name, seed) for seed in (3, 4) for name in ("torch", "also torch")],
        *[(name, seed) for seed in (3, 4) for name in vllm],
    ]


def test_a_key_gives_the_experiment_of_the_first_time(
    client: TestClient, create: Callable[..., Body], body: Body, database: SessionFactory
):
    first = create(body, key="k")
    rows = num_rows(database, Experiment, Batch, Job)
    reordered = dict(reversed(body.items()))
    assert create(reordered, key="k", status=200)["id"] == first["id"]
    assert create({**body, "name": "other"}, key="k", status=409)["code"] == "idempotency_conflict"
    assert num_rows(database, Experiment, Batch, Job) == rows == [1, 4, 8]


def test_a_key_gives_the_first_experiment_whatever_has_become_of_its_base_model(
    create: Callable[..., Body], body: Body, database: SessionFactory
):
    def register(adapter: str | None) -> None:
        with transaction(database) as session:
            shape = None if adapter is None else {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
            BaseModelRepository(session).register("mine", "/base", adapter_source=adapter, adapter_config=shape)

    register("/adapter")
    body["settings"] = {"base_model": "mine", "adaptation": {"start": "continue"}}
    body["grid"] = {"adaptation.max_steps": [1, 2]}
    first = create(body, key="k")
    register(None)
    assert create(body, status=422)["code"] == "invalid_request"
    assert create(body, key="k", status=200)["id"] == first["id"]
    assert create({**body, "name": "other"}, key="k", status=409)["code"] == "idempotency_conflict"


def test_what_only_the_registry_knows_is_refused_with_its_place(
    create: Callable[..., Body], body: Body, database: SessionFactory
):
    del body["grid"]
    cells = [
        {"name": "fine"},
        {"name": "models", "grid": {"base_model": ["arc-mini", "nobody"]}},
        {"name": "on", "set": {"adaptation.start": "continue"}},
    ]
    problem = create({**body, "cells": cells}, status=422)
    assert [error["pointer"] for error in problem["errors"]] == [
        "/cells/1/grid/base_model/1",
        "/cells/2/set/adaptation.start",
    ]
    assert num_rows(database, Experiment, Batch, Job) == [0, 0, 0]


def test_the_number_of_jobs_is_bounded(
    open_client: Callable[[ServiceConfig], TestClient], config: ServiceConfig, body: Body
):
    client = open_client(replace(config, max_experiment_jobs=8))
    assert client.post("/experiments", json=body).status_code == 202
    refused = client.post("/experiments", json={**body, "seeds": [1, 2, 3]})
    assert refused.status_code == 422
    assert "12 jobs, 8 are allowed" in refused.json()["detail"]


def test_the_report_is_what_one_counts_by_hand(
    client: TestClient,
    create: Callable[..., Body],
    jobs_of: Callable[..., list[str]],
    body: Body,
    worker: Worker,
):
    experiment = create(body)
    same_size = ((0, 0), (7, 0))  # two of its four cells are right
    a, b = jobs_of(experiment, 0, 3)
    # Of four views, two found the truth and one a grid of its size; one wrote no grid.
    succeed(worker, a, losses=[9.0] + [1.0] * 10, votes=[Found(GRID, 2), Found(same_size, 1)])
    succeed(worker, b, losses=[0.5, 1.5], votes=[Found(WRONG, 3), Found(GRID, 1)], first=WRONG)
    a, b = jobs_of(experiment, 0, 4)
    succeed(worker, a, losses=[2.0], votes=[Found(GRID, 4)])
    worker.fail(worker.claim(b), code="diverged")

    report = client.get(experiment["links"]["report"]).json()
    assert not report["finished"]
    cell, waiting = report["cells"]
    counts = {name: cell[name] for name in ("num_jobs", "finished", "failed", "diverged", "cancelled")}
    assert counts == {"num_jobs": 4, "finished": 4, "failed": 1, "diverged": 1, "cancelled": 0}
    assert (waiting["num_jobs"], waiting["finished"], waiting["final_loss"]["mean"]) == (4, 0, None)

    expected = {  # seed 3: mean of tasks a and b; seed 4: task a, and a failed one
        "accuracy": [(0.5 + 0.25) / 2, (1 + 0) / 2],
        "pass_n": [1, 0.5],
        "vote_1": [0.5, 0.5],
        "vote_2": [1, 0.5],
        "pass_at_2": [0.5, 0.5],
        "correct_size": [(0.75 + 0.25) / 2, 0.5],
        "correct_pixels": [((2 + 0.5) / 4 + 0.25) / 2, 0.5],
        "unanswered": [0.125, 0.5],
        "final_loss": [(1.0 + 1.0) / 2, 2.0],  # the last 10 steps; the failed job has none
        "seconds": [4.0, 4.0],
    }
    for name, (first, second) in expected.items():
        mean = (first + second) / 2
        std = math.sqrt((first - mean) ** 2 + (second - mean) ** 2)  # n - 1 is 1
        assert cell[name]["seeds"] == pytest.approx([first, second]), name
        assert (cell[name]["mean"], cell[name]["std"]) == pytest.approx((mean, std)), name
    assert [(failure["task_id"], failure["seed"], failure["code"]) for failure in report["failures"]] == [
        ("b", 4, "diverged")
    ]

    jobs = client.get(experiment["links"]["jobs"]).json()["items"]
    mine = [job for job in jobs if job["cell"] == cell["name"]]
    assert [(job["seed"], job["task_id"], job["status"], job["accuracy"], job["pass_at_2"]) for job in mine] == [
        (3, "a", "succeeded", 0.5, 1),
        (3, "b", "succeeded", 0.25, 0),
        (4, "a", "succeeded", 1, 1),
        (4, "b", "failed", 0, 0),
    ]
    assert [(job["error_code"], job["seconds"]) for job in mine[2:]] == [(None, 4.0), ("diverged", None)]
    rest = [(job["status"], job["accuracy"]) for job in jobs if job["cell"] == waiting["name"]]
    assert rest == [("queued", None)] * 4


def test_the_table_comes_as_csv_and_as_markdown(
    client: TestClient, create: Callable[..., Body], jobs_of: Callable[..., list[str]], body: Body, worker: Worker
):
    experiment = create(body)
    for seed in (3, 4):
        for job_id in jobs_of(experiment, 1, seed):
            succeed(worker, job_id, losses=[0.25 * seed], votes=[Found(GRID, seed)])
    link = experiment["links"]["report"]
    rows = list(csv.DictReader(io.StringIO(client.get(link, params={"format": "csv"}).text)))
    assert [row["cell"] for row in rows] == ["lora_rank=1", "lora_rank=8"]
    assert rows[0]["accuracy_mean"] == rows[0]["final_loss_std"] == ""
    assert float(rows[1]["accuracy_mean"]) == 0.875
    assert float(rows[1]["final_loss_std"]) == pytest.approx(0.25 / math.sqrt(2))
    table = client.get(link, params={"format": "markdown"}).text
    assert "| lora_rank=8 | 4/4 | 0 | 0 | 0.875 ± 0.177 | 87.5 ± 17.7 | 100.0 ± 0.0 |" in table
    assert "Not finished yet." in table
    jobs = list(csv.DictReader(io.StringIO(client.get(experiment["links"]["jobs"], params={"format": "csv"}).text)))
    assert [(job["seed"], job["task_id"], job["accuracy"]) for job in jobs if job["cell"] == "lora_rank=8"] == [
        ("3", "a", "0.75"),
        ("3", "b", "0.75"),
        ("4", "a", "1.0"),
        ("4", "b", "1.0"),
    ]


def test_what_jobs_train_in_common_is_divided_among_them(
    client: TestClient,
    create: Callable[..., Body],
    jobs_of: Callable[..., list[str]],
    body: Body,
    worker: Worker,
    database: SessionFactory,
):
    body["settings"]["adaptation"]["scope"] = "shared"
    experiment = create({**body, "seeds": [7]})
    for job_id in jobs_of(experiment, 0, 7):
        succeed(worker, job_id, losses=[1.0], votes=[Found(GRID, 4)])
    with transaction(database) as session:
        for job in session.scalars(select(Job).where(Job.results.is_not(None))):
            job.usage = {"adapt_s": 0.0, "sample_s": 1.0, "common": {"adapt_s": 6.0}}
    assert client.get(experiment["links"]["report"]).json()["cells"][0]["seconds"]["mean"] == 4.0


def test_one_seed_has_no_spread(
    client: TestClient, create: Callable[..., Body], jobs_of: Callable[..., list[str]], body: Body, worker: Worker
):
    experiment = create({**body, "seeds": [7]})
    for job_id in jobs_of(experiment, 0, 7):
        succeed(worker, job_id, losses=[1.0], votes=[Found(GRID, 4)])
    statistic = client.get(experiment["links"]["report"]).json()["cells"][0]["accuracy"]
    assert statistic == {"mean": 1.0, "std": None, "seeds": [1.0]}


def test_tasks_without_answers_are_trained_and_not_scored(
    client: TestClient, create: Callable[..., Body], jobs_of: Callable[..., list[str]], body: Body, worker: Worker
):
    del body["tasks"]["b"]["test"][0]["output"]  # the same object as task a
    experiment = create({**body, "seeds": [7]})
    for job_id in jobs_of(experiment, 0, 7):
        succeed(worker, job_id, losses=[1.0], votes=[Found(GRID, 4)])
    cell = client.get(experiment["links"]["report"]).json()["cells"][0]
    assert (cell["finished"], cell["final_loss"]["mean"], cell["accuracy"]["mean"]) == (2, 1.0, None)


def test_curves_are_means_over_tasks_then_seeds(
    client: TestClient, create: Callable[..., Body], jobs_of: Callable[..., list[str]], body: Body, worker: Worker
):
    experiment = create(body)
    losses = {3: [[1.0, 0.5], [3.0, 1.5]], 4: [[4.0], [4.0]]}
    for seed, of_tasks in losses.items():
        for job_id, run in zip(jobs_of(experiment, 0, seed), of_tasks, strict=True):
            worker.train(worker.claim(job_id), run)
    failed = worker.claim(jobs_of(experiment, 1, 3)[0])
    worker.train(failed, [100.0])
    worker.fail(failed)
    curves = client.get(experiment["links"]["curves"]).json()
    assert curves["steps_per_point"] == 1
    trained, other = curves["cells"]
    assert trained["points"] == [
        {"step": 1, "loss": 3.0, "std": pytest.approx(math.sqrt(2)), "num_jobs": 4},
        {"step": 2, "loss": 1.0, "std": None, "num_jobs": 2},
    ]
    assert other == {"name": "lora_rank=8", "points": []}


def test_a_point_of_a_thinned_curve_weighs_jobs_alike(
    client: TestClient, create: Callable[..., Body], jobs_of: Callable[..., list[str]], body: Body, worker: Worker
):
    body["settings"]["adaptation"]["max_steps"] = 1001
    experiment = create(body)
    long, short = jobs_of(experiment, 0, 3)
    worker.train(worker.claim(long), [1.0, 1.0, 1.0])
    worker.train(worker.claim(short), [5.0])
    [point] = client.get(experiment["links"]["curves"]).json()["cells"][0]["points"]
    assert point == {"step": 3, "loss": 3.0, "std": None, "num_jobs": 2}


def test_long_curves_are_thinned(
    client: TestClient, create: Callable[..., Body], jobs_of: Callable[..., list[str]], body: Body, worker: Worker
):
    body["settings"]["adaptation"]["max_steps"] = 1001  # one step more than 500 points of two
    experiment = create(body)
    worker.train(worker.claim(jobs_of(experiment, 0, 3)[0]), [1.0, 2.0, 3.0, 6.0])
    curves = client.get(experiment["links"]["curves"]).json()
    assert curves["steps_per_point"] == 3
    points = [(point["step"], point["loss"]) for point in curves["cells"][0]["points"]]
    assert points == [(3, 2.0), (4, 6.0)]


def test_cancelling_stops_what_is_not_finished_and_resuming_goes_on(
    client: TestClient,
    create: Callable[..., Body],
    jobs_of: Callable[..., list[str]],
    body: Body,
    worker: Worker,
    database: SessionFactory,
):
    experiment = create(body)
    done, running = jobs_of(experiment, 0, 3)
    worker.succeed(done)
    worker.claim(running)
    cancelled = client.post(experiment["links"]["cancel"])
    assert cancelled.status_code == 202
    counts = cancelled.json()["counts"]
    assert (counts["succeeded"], counts["running"], counts["cancelled"]) == (1, 1, 6)
    assert client.get(f"/jobs/{running}").json()["cancel_requested"]

    resumed = client.post(experiment["links"]["resume"]).json()["counts"]
    assert (resumed["succeeded"], resumed["running"], resumed["queued"]) == (1, 0, 7)
    assert num_rows(database, Job) == [8]
    assert done in jobs_of(experiment, 0, 3)
    with transaction(database) as session:  # the fresh jobs can be taken, and are what the old ones were
        job = ClaimRepository(session).claim_for_adapting(None, owner="w", lease_s=60)
        assert job is not None
        assert job.settings.adaptation is not None
        assert (job.max_steps, job.settings.adaptation.max_steps) == (3, 3)


def test_a_seed_that_was_cut_short_has_no_score(
    client: TestClient, create: Callable[..., Body], jobs_of: Callable[..., list[str]], body: Body, worker: Worker
):
    experiment = create(body)
    worker.succeed(jobs_of(experiment, 0, 3)[0])
    cells = client.get(experiment["links"]["report"]).json()["cells"]
    assert cells[0]["pass_at_2"]["mean"] is not None
    client.post(experiment["links"]["cancel"])
    cells = client.get(experiment["links"]["report"]).json()["cells"]
    assert cells[0]["pass_at_2"]["mean"] is None, "an absent answer is wrong, not left out"
    assert cells[0]["seconds"]["mean"] is not None


def test_a_job_that_is_being_cancelled_leaves_no_hole(
    client: TestClient, create: Callable[..., Body], jobs_of: Callable[..., list[str]], body: Body, worker: Worker
):
    experiment = create(body)
    held = worker.claim(jobs_of(experiment, 0, 3)[0])
    client.post(experiment["links"]["cancel"])
    client.post(experiment["links"]["resume"])
    with pytest.raises(StaleClaim):  # what the worker would do that has heard of the cancel, but not of the resume
        worker.cancel(held)
    counts = client.get(experiment["links"]["self"]).json()["counts"]
    assert (counts["queued"], counts["running"], counts["cancelled"]) == (8, 0, 0)


def test_resuming_keeps_the_working_order(
    client: TestClient, create: Callable[..., Body], body: Body, database: SessionFactory
):
    body["grid"] = {"adaptation.lora_rank": list(range(1, 6))}
    body["tasks"] = {f"task-{index}": body["tasks"]["a"] for index in range(3)}
    experiment = create(body)

    def order() -> list[tuple[str | None, int | None, str]]:
        query = select(Batch.cell, Batch.seed, Job.task_id).join(Job.batch).order_by(Job.created_at, Job.position)
        with transaction(database) as session:
            return [tuple(row) for row in session.execute(query)]

    before = order()
    assert before[0] == ("lora_rank=5", 3, "task-0")
    client.post(experiment["links"]["cancel"])
    client.post(experiment["links"]["resume"])
    assert order() == before
    with transaction(database) as session:
        assert set(session.scalars(select(Job.position))) == {0, 1, 2}


def test_two_who_resume_at_once_make_one_fresh_job_each_time(
    client: TestClient, create: Callable[..., Body], body: Body, database: SessionFactory
):
    experiment = create(body)
    client.post(experiment["links"]["cancel"])
    experiment_id = UUID(experiment["id"])

    def resume() -> Replaced:
        with transaction(database) as session:
            return ExperimentRepository(session).offer_again(experiment_id)

    with ThreadPoolExecutor() as pool:
        with transaction(database) as session:
            first = ExperimentRepository(session).offer_again(experiment_id)
            second = pool.submit(resume)
            assert not wait([second], timeout=0.5).done  # it waits for the rows of the first
        assert second.result(timeout=10).job_ids == ()
    assert len(first.job_ids) == 8
    assert num_rows(database, Job) == [8]


def test_resuming_offers_lost_jobs_again_and_failed_ones_if_asked_to(
    client: TestClient,
    create: Callable[..., Body],
    jobs_of: Callable[..., list[str]],
    body: Body,
    worker: Worker,
    database: SessionFactory,
    config: ServiceConfig,
):
    experiment = create(body)
    lost, diverged = jobs_of(experiment, 0, 3)
    lose(database, worker, lost)
    job = worker.claim(diverged)
    worker.finish_adapting(job)
    worker.fail(worker.claim_for_sampling(diverged), code="sampler_failed")
    [archive] = config.artifacts_dir.rglob("*.zip")

    once = client.post(experiment["links"]["resume"]).json()["counts"]
    assert (once["queued"], once["failed"]) == (7, 1)
    assert lost not in jobs_of(experiment, 0, 3)
    assert archive.exists()
    again = client.post(experiment["links"]["resume"], params={"failed": "all"}).json()["counts"]
    assert (again["queued"], again["failed"]) == (8, 0)
    assert not archive.exists()
    assert client.post(experiment["links"]["resume"], params={"failed": "all"}).json()["counts"] == again


def test_the_list_comes_in_pages_newest_first(client: TestClient, create: Callable[..., Body], body: Body):
    ids = [create({**body, "name": name})["id"] for name in ("x", "y", "z")]
    first = client.get("/experiments", params={"limit": 2}).json()
    assert [item["id"] for item in first["items"]] == [ids[2], ids[1]]
    assert first["items"][0]["counts"]["queued"] == 8
    assert not first["items"][0]["finished"]
    assert first["items"][0]["num_cells"] == 2
    rest = client.get("/experiments", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [item["id"] for item in rest["items"]] == [ids[0]]
    assert rest["next_cursor"] is None
    assert client.get("/experiments", params={"cursor": "nonsense"}).json()["code"] == "invalid_cursor"


@pytest.mark.parametrize("rest", ["", "/report", "/jobs", "/curves"])
def test_there_is_no_other_experiment(client: TestClient, rest: str):
    assert client.get(f"/experiments/00000000-0000-0000-0000-000000000000{rest}").json()["code"] == "not_found"
