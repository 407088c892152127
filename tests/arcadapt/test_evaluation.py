"""An evaluation on the real API; `Desk` stands in for the worker."""

import csv
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import matplotlib.image
import numpy as np
import pytest

from arc_engine.errors import InvalidTaskSource
from arc_engine.evaluation.metrics import NO_ANSWER, Metrics
from arc_engine.grids import Grid
from arcadapt import Client
from arcadapt.drawing import COLOURS
from arcadapt.errors import ApiError
from arcadapt.evaluation import Evaluation, InputResult, TaskResult, collect, evaluate, require_truth
from arcadapt.evaluation_picture import ROWS_PER_PICTURE, draw_rows
from arcadapt.evaluation_report import as_csv, as_document, as_markdown, write_report
from arcadapt.following import JobSight
from jobs.states import Status
from tests.arcadapt.desk import Desk
from tests.fixtures.records import TASK_JSON

SETTINGS = {"sampling": {"num_views": 4}, "adaptation": {"seed": 1}}
# What Desk's worker answers: of 4 predictions 3 are [[6, 5]], which is attempt 1 and right, and one cannot be read.
ANSWERED = Metrics(
    accuracy=0.75,
    pass_n=1,
    vote_1=1,
    vote_2=1,
    pass_at_2=1,
    correct_size=0.75,
    correct_pixels=0.75,
    unanswered=0.25,
)
TASKS = {"good": TASK_JSON, "bad": TASK_JSON}


def nothing(_: Sequence[JobSight]) -> None: ...


@pytest.fixture
def treated(client: Client, desk: Desk) -> Iterator[list[UUID]]:
    """Has a stand-in worker answer the queued jobs, but fail those of tasks named `bad`; the jobs that it has had."""
    over, done = threading.Event(), []

    def work() -> None:
        while not over.wait(0.05):
            for job in client.jobs(status="queued"):
                (desk.fail if job.task_id == "bad" else desk.succeed)(job.id)
                done.append(job.id)

    thread = threading.Thread(target=work)
    thread.start()
    yield done
    over.set()
    thread.join()


@pytest.fixture
def evaluation(client: Client, treated: list[UUID]) -> Evaluation:
    return evaluate(client, TASKS, settings=SETTINGS, name="two tasks", show=nothing)


def test_answers_are_measured_and_failed_jobs_count_as_wrong(evaluation: Evaluation):
    good, bad = evaluation.tasks
    assert (good.task_id, good.status, good.error, good.metrics) == ("good", "succeeded", None, ANSWERED)
    assert good.tests == (InputResult(((5, 6),), ((6, 5),), (((6, 5),), None), ANSWERED, (1.0, 0.0)),)
    assert bad.tests[0].confidences is None
    assert (good.last_loss, good.adapt_s, good.sample_s) == (5.5, 1.0, 2.0)
    assert (bad.task_id, bad.status, bad.metrics) == ("bad", "failed", NO_ANSWER)
    assert bad.error is not None
    assert bad.error.code == "diverged"
    assert evaluation.failed == (bad,)
    assert evaluation.metrics.pass_at_2 == 0.5
    assert evaluation.metrics.accuracy == 0.375


def test_what_tasks_train_in_common_is_divided_among_them(client: Client, desk: Desk):
    settings = {"adaptation": {"scope": "groups", "group_size": 2}}
    tasks = dict.fromkeys(("a", "b", "c"), TASK_JSON)
    batch = client.solve(tasks, settings=settings, name="three")
    for job in batch.jobs:
        desk.succeed(job.id)
        desk.spend(job.id, {"adapt_s": 0.5, "sample_s": 1.0, "common": {"adapt_s": 6.0}})
    evaluation = collect(client, client.batch(batch.batch_id), tasks=tasks, truth=require_truth(tasks))
    assert [(task.adapt_s, task.sample_s) for task in evaluation.tasks] == [(3.5, 1.0), (3.5, 1.0), (6.5, 1.0)]


def test_the_same_evaluation_is_the_batch_of_the_first(client: Client, evaluation: Evaluation, treated: list[UUID]):
    def same(**changes: Any) -> bool:
        arguments = {"settings": SETTINGS, "name": "two tasks", **changes}
        return evaluate(client, TASKS, show=nothing, **arguments).batch_id == evaluation.batch_id

    assert same()
    assert len(treated) == 2  # nothing was done again
    assert same(settings=dict(reversed(SETTINGS.items())))
    assert not same(settings={**SETTINGS, "sampling": {"num_views": 5}})
    assert not same(name="other")
    assert not same(again=True)


def test_an_interrupted_evaluation_goes_on(client: Client, desk: Desk):
    def interrupt(_: object) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        evaluate(client, TASKS, settings={}, name="x", show=interrupt)
    jobs = {job.task_id: job.id for job in client.jobs()}
    assert len(jobs) == 2
    for job_id in jobs.values():
        desk.succeed(job_id)
    again = evaluate(client, TASKS, settings={}, name="x", show=nothing)
    assert {task.task_id: task.job_id for task in again.tasks} == jobs


def test_tasks_without_truth_are_named_and_nothing_is_submitted(client: Client):
    without = {**TASK_JSON, "test": [{"input": [[5, 6]]}]}
    with pytest.raises(InvalidTaskSource, match="1 of 2 tasks have no test outputs to measure against: b"):
        evaluate(client, {"a": TASK_JSON, "b": without}, settings={}, name="x", show=nothing)
    assert list(client.jobs()) == []


def test_bad_settings_are_refused(client: Client):
    with pytest.raises(ApiError, match="/settings/sampling/num_viewz"):
        evaluate(client, TASKS, settings={"sampling": {"num_viewz": 1}}, name="x", show=nothing)


def test_the_reports(evaluation: Evaluation, tmp_path: Path):
    files = write_report(evaluation, tmp_path / "new" / "out")
    assert [file.name for file in files] == ["report.json", "report.csv", "report.md", "picture.png"]
    document = json.loads(files[0].read_text())
    assert document == json.loads(json.dumps(as_document(evaluation)))
    assert (document["num_tasks"], document["num_failed"]) == (2, 1)
    assert document["metrics"]["accuracy"] == 0.375
    assert document["tasks"][0]["tests"][0]["attempt_1"] == [[6, 5]]
    assert document["tasks"][1]["error"] == {"code": "diverged", "message": "step 3: loss nan"}
    assert document["settings"]["sampling"]["num_views"] == 4
    rows = list(csv.DictReader(io.StringIO(as_csv(evaluation))))
    assert [row["task"] for row in rows] == ["good", "bad"]
    assert (rows[0]["pass_at_2"], rows[0]["last_loss"], rows[0]["error"]) == ("1.0", "5.5", "")
    assert document["tasks"][0]["tests"][0]["confidences"] == [1.0, 0.0]
    assert document["reliability"]["num_forecasts"] == 1  # the attempt that was made: it is sure and right
    assert (document["reliability"]["expected_calibration_error"], document["reliability"]["brier_score"]) == (0, 0)
    assert (rows[1]["pass_at_2"], rows[1]["last_loss"], rows[1]["error"]) == ("0.0", "", "diverged")
    text = as_markdown(evaluation)
    assert "| 37.5% | 50.0% | 50.0% | 50.0% | 50.0% | 37.5% | 37.5% | 62.5% |" in text
    assert "| 90% to 100% | 1 | 100.0% | 100.0% |" in text
    assert "- bad: diverged: step 3: loss nan" in text


@pytest.mark.fast
def test_the_reliability_is_that_of_the_attempts_that_were_made():
    def tried(first: Grid | None, second: Grid | None, confidences: tuple[float, float] | None) -> InputResult:
        return InputResult(((1,),), ((3,),), (first, second), ANSWERED, confidences)

    def task(*tests: InputResult) -> TaskResult:
        return TaskResult("task", UUID(int=0), Status.SUCCEEDED, None, ANSWERED, tests, None, None, None)

    right, wrong = ((3,),), ((4,),)
    tasks = (
        task(tried(right, wrong, (0.75, 0.05)), tried(wrong, right, (0.75, 0.15))),
        task(tried(wrong, None, (0.15, 0.0)), tried(None, None, (0.0, 0.0)), tried(right, None, None)),
    )
    evaluation = Evaluation("by hand", UUID(int=1), {}, tasks, ANSWERED)
    assert [(one.low, one.count, one.share_right) for one in evaluation.reliability.bins if one.count] == [
        (0.0, 1, 0.0),
        (0.1, 2, 0.5),
        (0.7, 2, 0.5),
    ]
    text = as_markdown(evaluation)
    assert "5 attempts. Expected calibration error 0.2500, Brier score 0.2745; 0 is best." in text
    assert "| 70% to 80% | 2 | 75.0% | 50.0% |" in text
    assert "## Confidence" not in as_markdown(Evaluation("none", UUID(int=1), {}, (), ANSWERED))


class TestPicture:
    """Pixels of the picture where grids, frames and gaps must be."""

    pytestmark = pytest.mark.fast

    def pixels(self, tests: list[InputResult], tmp_path: Path) -> Callable[[float, float], tuple[int, ...]]:
        draw_rows([("task", test) for test in tests]).savefig(tmp_path / "p.png")
        image = (matplotlib.image.imread(tmp_path / "p.png") * 255).round().astype(int)
        slot = image.shape[1] / 4.9

        def at(column: float, row: float) -> tuple[int, ...]:
            return tuple(image[round((row + 0.2) * slot), round((0.9 + column) * slot), :3])

        return at

    def test_every_grid_stands_in_its_place_in_arcs_colours(self, tmp_path: Path):
        tests = [
            InputResult(((1, 2),), ((3,),), (((3,),), ((4,), (5,))), ANSWERED),
            InputResult(((9,),), ((0,),), (None, ((6,),)), NO_ANSWER),
        ]
        at = self.pixels(tests, tmp_path)

        def colour(number: int) -> tuple[int, ...]:
            return tuple(int(COLOURS[number][i : i + 2], 16) for i in (1, 3, 5))

        assert (at(0.3, 0.5), at(0.7, 0.5)) == (colour(1), colour(2))  # input, left and right cell
        assert (at(1.5, 0.5), at(2.5, 0.5)) == (colour(3), colour(3))  # truth and attempt 1
        assert (at(3.5, 0.3), at(3.5, 0.7)) == (colour(4), colour(5))  # attempt 2, upper and lower cell
        assert (at(0.5, 1.5), at(1.5, 1.5), at(3.5, 1.4)) == (colour(9), colour(0), colour(6))
        assert at(2.5, 1.2) == (255, 255, 255)  # no attempt there

    def test_right_and_wrong_attempts_are_framed_apart(self, tmp_path: Path):
        at = self.pixels([InputResult(((1,),), ((3,),), (((3,),), ((4,),)), ANSWERED)], tmp_path)
        edge = 0.5 - 0.84 / 2
        red, green, _ = at(2 + edge, 0.5)
        assert green > red
        red, green, _ = at(3 + edge, 0.5)
        assert red > green


def test_many_answers_are_spread_over_several_pictures(evaluation: Evaluation, tmp_path: Path):
    many = evaluation.tasks[:1] * (ROWS_PER_PICTURE + 1)
    large = Evaluation("large", evaluation.batch_id, evaluation.settings, many, evaluation.metrics)
    files = write_report(large, tmp_path)
    assert [file.name for file in files[3:]] == ["picture.png", "picture-2.png"]
    heights = [np.shape(matplotlib.image.imread(file))[0] for file in files[3:]]
    assert heights[0] > 30 * heights[1] > 0
