import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from api.schemas import JobDetail
from arc_engine.settings import AdaptationSettings, SolveSettings
from arcadapt import ApiError, Client, ServerUnreachable, UnexpectedAnswer, WaitTimedOut
from jobs.config import ServiceConfig
from jobs.database import SessionFactory, transaction
from jobs.repositories import BaseModelRepository
from jobs.states import Phase, Status
from tests.arcadapt.desk import LOSSES, Desk
from tests.fixtures.records import TASK_JSON


def test_one_task_is_submitted_under_its_name(client: Client):
    accepted = client.solve(TASK_JSON, task_id="mirror", name="a try")
    assert [job.task_id for job in accepted.jobs] == ["mirror"]
    assert client.batch(accepted.batch_id).name == "a try"
    assert client.job(accepted.jobs[0].id).status is Status.QUEUED


def test_many_tasks_are_submitted_with_settings_of_either_kind(client: Client):
    as_mapping = client.solve({"a": TASK_JSON, "b": TASK_JSON}, settings={"adaptation": {"max_steps": 7}})
    as_object = client.solve({"a": TASK_JSON}, settings=SolveSettings(adaptation=None))
    assert [job.task_id for job in as_mapping.jobs] == ["a", "b"]
    assert client.job(as_mapping.jobs[0].id).progress.max_steps == 7
    assert client.job(as_object.jobs[0].id).settings["adaptation"] is None


def test_settings_that_were_not_said_are_the_servers_to_fill_in(client: Client, database: SessionFactory):
    shape = {"r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": ["q_proj"]}
    with transaction(database) as session:
        BaseModelRepository(session).register("tuned", "/base", adapter_source="/adapter", adapter_config=shape)
    settings = SolveSettings(base_model="tuned", adaptation=AdaptationSettings(start="continue", max_steps=5))
    job = client.job(client.solve(TASK_JSON, settings=settings).jobs[0].id)
    adaptation = job.settings["adaptation"]
    assert (adaptation["lora_rank"], adaptation["use_rslora"], adaptation["max_steps"]) == (4, True, 5)
    said = AdaptationSettings(start="continue", lora_rank=16)
    with pytest.raises(ApiError) as refused:
        client.solve(TASK_JSON, settings=SolveSettings(base_model="tuned", adaptation=said))
    assert [fault.pointer for fault in refused.value.errors] == ["/settings/adaptation/lora_rank"]


def test_what_is_done_to_an_experiment_as_a_whole_has_its_time():
    patience = []

    def answer(request: httpx.Request) -> httpx.Response:
        patience.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, text="no experiment")

    with Client(timeout_s=1.0, transport=httpx.MockTransport(answer)) as client:
        whole = (client.cancel_experiment, client.resume_experiment, client.experiment_report, client.experiment_curves)
        for call in (client.experiment, *whole):
            with pytest.raises(UnexpectedAnswer):
                call(uuid4())
    assert patience == [1.0, 300.0, 300.0, 300.0, 300.0]


def test_an_idempotency_key_gives_the_first_batch_again(client: Client):
    first, second = (client.solve(TASK_JSON, idempotency_key="once") for _ in range(2))
    assert first.batch_id == second.batch_id
    assert len(list(client.jobs())) == 1


def test_jobs_come_newest_first_over_all_pages(client: Client):
    submitted = [client.solve(TASK_JSON, task_id=f"t{i}").jobs[0].id for i in range(5)]
    assert [job.id for job in client.jobs(limit=2)] == submitted[::-1]
    assert [job.task_id for job in client.jobs(task_id="t3")] == ["t3"]


def test_jobs_are_filtered(client: Client, desk: Desk):
    accepted = client.solve({"a": TASK_JSON, "b": TASK_JSON})
    client.solve(TASK_JSON)
    desk.succeed(accepted.jobs[0].id)
    assert [job.task_id for job in client.jobs(status="succeeded")] == ["a"]
    assert {job.task_id for job in client.jobs(batch_id=accepted.batch_id)} == {"a", "b"}


def test_everything_about_a_solved_job(client: Client, desk: Desk, tmp_path: Path):
    accepted = client.solve(TASK_JSON)
    job_id = accepted.jobs[0].id
    desk.succeed(job_id)
    job = client.job(job_id)
    assert job.results is not None
    assert job.results.test[0].attempt_1 == [[6, 5]]
    assert [step.loss for step in client.losses(job_id)] == LOSSES
    assert [step.step for step in client.losses(job_id, after=28)] == [29, 30]
    assert client.losses_csv(job_id).startswith("step,loss,")
    assert client.candidates(job_id).test[0].candidates[0].votes == 3
    assert client.batch(accepted.batch_id).finished
    assert client.submission(accepted.batch_id)["task"][0].attempt_1 == [[6, 5]]
    assert client.adapter(job_id, tmp_path / "adapter.zip").read_bytes().startswith(b"PK")


def test_a_download_that_is_refused_leaves_nothing_and_keeps_what_was_there(client: Client, tmp_path: Path):
    target = tmp_path / "adapter.zip"
    target.write_text("an older one")
    with pytest.raises(ApiError) as refused:
        client.adapter(client.solve(TASK_JSON).jobs[0].id, target)
    assert refused.value.code == "no_adapter"
    assert [path.name for path in tmp_path.glob("adapter*")] == ["adapter.zip"]
    assert target.read_text() == "an older one"


def test_a_submission_of_unfinished_jobs_only_on_request(client: Client):
    accepted = client.solve(TASK_JSON)
    with pytest.raises(ApiError) as refused:
        client.submission(accepted.batch_id)
    assert (refused.value.status, refused.value.code) == (409, "batch_unfinished")
    assert client.submission(accepted.batch_id, partial=True)["task"][0].attempt_1 == [[0]]


def test_a_waiting_job_is_cancelled(client: Client):
    assert client.cancel(client.solve(TASK_JSON).jobs[0].id).phase is Phase.CANCELLED


def test_base_models_and_readiness(client: Client):
    assert [model.name for model in client.base_models()] == ["arc-mini", "arc-mini-ft"]
    assert client.ready().status == "ready"


def test_a_base_model_is_registered_with_its_adapter(client: Client):
    registered = client.register_base_model("team/tuned", "bundled:arc-mini", adapter="bundled:arc-mini-lora")
    assert client.base_model("team/tuned") == registered
    assert (registered.adapter_source, registered.merge_state) == ("bundled:arc-mini-lora", "needs_merge")


def test_a_bad_grid_is_an_error_that_names_its_place(client: Client):
    bad = {**TASK_JSON, "train": [{"input": [[1, 12]], "output": [[1]]}]}
    with pytest.raises(ApiError) as refused:
        client.solve({"abc": bad})
    assert (refused.value.status, refused.value.code) == (422, "invalid_request")
    assert refused.value.errors[0].pointer == "/tasks/abc/train/0/input/0/1"
    assert "/tasks/abc/train/0/input/0/1: 12 is not in 0..9" in str(refused.value)
    copy = pickle.loads(pickle.dumps(refused.value))  # noqa: S301 - our own bytes
    assert (str(copy), copy.errors) == (str(refused.value), refused.value.errors)


def test_an_unknown_job_is_an_error(client: Client):
    with pytest.raises(ApiError) as refused:
        client.job(uuid4())
    assert (refused.value.status, refused.value.code) == (404, "not_found")


def test_nothing_answers(closed_port: int):
    with Client(f"http://127.0.0.1:{closed_port}") as client, pytest.raises(ServerUnreachable, match=str(closed_port)):
        client.solve(TASK_JSON)


@pytest.mark.parametrize("url", ["http://[", "not a url", "ftp://127.0.0.1"])
def test_a_url_that_is_none(url: str):
    with pytest.raises(ServerUnreachable), Client(url) as client:
        client.ready()


@pytest.fixture
def strange_server() -> Iterator[str]:
    """Somebody else's web server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if self.path.startswith("/jobs/") else 200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_somebody_elses_server_is_told_from_ours(strange_server: str):
    with Client(strange_server) as client:
        with pytest.raises(UnexpectedAnswer, match="is this an arcadapt server"):
            client.job("1")
        with pytest.raises(UnexpectedAnswer, match="not what arcadapt answers"):
            client.ready()


def test_waiting_shows_progress_and_gives_the_jobs_in_order(client: Client, desk: Desk):
    accepted = client.solve({"a": TASK_JSON, "b": TASK_JSON})
    first, second = (job.id for job in accepted.jobs)
    seen: list[tuple[str, Phase]] = []

    def observe(job: JobDetail) -> None:
        seen.append((job.task_id, job.phase))
        if job.id == first and job.phase is Phase.QUEUED:
            desk.fail(first)
        elif job.id == second and job.phase is Phase.QUEUED:
            desk.succeed(second)

    jobs = client.wait([first, second], poll_s=0.01, observe=observe)
    assert [job.status for job in jobs] == [Status.FAILED, Status.SUCCEEDED]
    assert jobs[0].error is not None
    assert jobs[0].error.code == "diverged"
    assert seen == [("a", "queued"), ("b", "queued"), ("a", "failed"), ("b", "succeeded")]


def test_waiting_ends_at_its_time_limit_and_the_job_goes_on(client: Client):
    job_id = client.solve(TASK_JSON).jobs[0].id
    with pytest.raises(WaitTimedOut):
        client.wait([job_id], timeout_s=0, poll_s=0.01)
    assert client.job(job_id).status is Status.QUEUED


def test_a_batch_is_waited_for(client: Client, desk: Desk):
    accepted = client.solve(TASK_JSON)
    batch = client.wait_for_batch(
        accepted.batch_id, poll_s=0.01, observe=lambda batch: batch.finished or desk.succeed(accepted.jobs[0].id)
    )
    assert batch.counts[Status.SUCCEEDED] == 1


def test_api_keys_are_sent(serve: Callable[[ServiceConfig], str], config: ServiceConfig):
    url = serve(replace(config, api_keys=("secret",)))
    with Client(url) as client, pytest.raises(ApiError) as refused:
        client.base_models()
    assert refused.value.status == 401
    with Client(url, api_key="secret") as client:
        assert [model.name for model in client.base_models()] == ["arc-mini", "arc-mini-ft"]
