"""`arcadapt experiment`: from a file to a table, a picture and an exit code."""

import json
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

import pytest
from PIL import Image

from arcadapt import Client
from arcadapt.errors import StackError
from arcadapt.stack.folder import StackFolder
from arcadapt.stack.stack import StackOptions
from jobs.database import SessionFactory
from jobs.models import Job
from tests.arcadapt.cli.ran import Run
from tests.arcadapt.desk import Desk


def job_ids(client: Client, experiment_id: UUID | str) -> list[UUID]:
    batches = [batch.id for cell in client.experiment(experiment_id).cells for batch in cell.batches]
    return [job.id for batch_id in batches for job in client.batch(batch_id).jobs]


def succeed_all(client: Client, desk: Desk) -> None:
    [experiment] = client.experiments()
    for job_id in job_ids(client, experiment.id):
        if client.job(job_id).status == "queued":
            desk.succeed(job_id)


def test_results_lie_beside_the_file(file: Path, run: Run, client: Client, desk: Desk):
    submitted = run("experiment", file, "--no-wait", "--json")
    assert submitted.code == 0, submitted.err
    experiment_id = json.loads(submitted.out)["id"]
    ids = job_ids(client, experiment_id)
    assert len(ids) == 8
    succeed_all(client, desk)

    ran = run("experiment", file)
    assert ran.code == 0, ran.err
    assert "learning_rate=0.002" in ran.out
    assert job_ids(client, experiment_id) == ids
    results = file.parent / "results"
    assert {path.name for path in results.iterdir()} == {
        *("report.json", "report.csv", "report.md", "jobs.csv"),
        *("curves.json", "curves.png"),
    }
    report = json.loads((results / "report.json").read_text())
    assert [cell["pass_at_2"]["mean"] for cell in report["cells"]] == [1.0, 1.0]
    assert len((results / "report.csv").read_text().splitlines()) == 3
    assert len((results / "jobs.csv").read_text().splitlines()) == 9
    assert "| learning_rate=0.001 | 4/4 |" in (results / "report.md").read_text()
    curves = json.loads((results / "curves.json").read_text())
    assert [len(cell["points"]) for cell in curves["cells"]] == [30, 30]
    assert Image.open(results / "curves.png").format == "PNG"


def test_the_same_command_goes_on_with_what_is_missing(
    file: Path, run: Run, client: Client, desk: Desk, tmp_path: Path
):
    run("experiment", file, "--no-wait")
    [experiment] = client.experiments()
    first, second, *_ = job_ids(client, experiment.id)
    desk.succeed(first)
    client.cancel_experiment(experiment.id)

    assert run("experiment", file, "--no-wait").code == 0
    [same] = client.experiments()
    assert (same.id, same.counts["succeeded"], same.counts["queued"]) == (experiment.id, 1, 7)
    assert first in job_ids(client, experiment.id)
    assert second not in job_ids(client, experiment.id)
    succeed_all(client, desk)
    ran = run("experiment", file, "--out", tmp_path / "elsewhere", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["finished"]
    assert (tmp_path / "elsewhere" / "curves.png").exists()


def test_a_diverged_job_is_a_result_and_any_other_failure_an_error(
    file: Path, run: Run, client: Client, desk: Desk, database: SessionFactory
):
    run("experiment", file, "--no-wait")
    [experiment] = client.experiments()
    failed = job_ids(client, experiment.id)[0]
    desk.fail(failed)
    succeed_all(client, desk)
    ran = run("experiment", file)
    assert (ran.code, "1 (1 diverged)" in ran.out) == (0, True), ran.err
    assert "diverged: step 3: loss nan" in ran.err

    with database.begin() as session:
        session.get_one(Job, failed).error_code = "task_too_long"
    ran = run("experiment", file)
    assert ran.code == 1
    assert "task_too_long" in ran.err
    assert run("experiment", file, "--no-wait", "--retry-failed").code == 0
    [same] = client.experiments()
    assert (same.counts["failed"], same.counts["queued"]) == (0, 1)


def test_names_with_brackets_are_shown_as_they_are(file: Path, run: Run, client: Client, desk: Desk):
    cells = "cells: [{name: '[no swap]'}, {name: '[/old]', set: {adaptation.lora_rank: 8}}]"
    text = file.read_text()
    file.write_text(text[: text.index("grid:")] + cells)
    assert run("experiment", file, "--no-wait").code == 0
    [experiment] = client.experiments()
    *_, failed = job_ids(client, experiment.id)
    desk.fail(failed)
    succeed_all(client, desk)
    ran = run("experiment", file)
    assert [line.split("  ")[0] for line in ran.out.splitlines()[1:3]] == ["[no swap]", "[/old]"]
    assert ", [/old], seed 1: diverged: step 3: loss nan" in ran.err


def test_what_the_server_refuses_is_told_with_its_place(file: Path, run: Run, client: Client):
    file.write_text(file.read_text().replace("learning_rate", "learning_rat"))
    ran = run("experiment", file)
    assert ran.code == 4
    assert "/grid/adaptation.learning_rat/0: Extra inputs are not permitted" in ran.err
    assert list(client.experiments()) == []


def test_a_file_that_is_none_is_told_before_any_server_is_started(bare: Run, tmp_path: Path):
    ran = bare("experiment", tmp_path / "nothing.yaml")
    assert ran.code == 2
    assert "nothing.yaml: No such file" in ran.err


@pytest.mark.parametrize("command", ["experiment", "evaluate"])
@pytest.mark.parametrize(("said", "num_workers"), [((), 1), (("--workers", 3), 3)])
def test_the_stack_of_the_commands_own_has_as_many_workers_as_are_wanted(
    file: Path, bare: Run, monkeypatch: pytest.MonkeyPatch, command: str, said: tuple[object, ...], num_workers: int
):
    options: list[StackOptions] = []

    def note(_: StackFolder, **arguments: Any) -> NoReturn:
        options.append(arguments["options"])
        raise StackError("this is as far as the test goes")

    monkeypatch.setattr("arcadapt.hosting.Stack", note)
    source = file if command == "experiment" else file.parent / "tasks.json"
    ran = bare(command, source, *said)
    assert "as far as the test goes" in ran.err
    assert options == [StackOptions(num_workers=num_workers)]
