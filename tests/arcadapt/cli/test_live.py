import io
from typing import Any
from uuid import uuid4

import pytest
from rich.console import Console

from api.schemas import BatchJob
from arcadapt.cli.live import LiveJobs
from arcadapt.cli.output import sparkline
from arcadapt.following import JobSight

pytestmark = pytest.mark.fast
JOB_ID = str(uuid4())


def sight(phase: str, *, step: int = 0, loss: float | None = None, **fields: Any) -> JobSight:
    status = "running" if phase in {"adapting", "adapted", "sampling"} else phase
    document = {
        "id": JOB_ID,
        "task_id": "abc",
        "status": status,
        "phase": phase,
        "progress": {"step": step, "max_steps": 150, "eta_s": 12.5},
        "solved": None,
        "error": None,
        "links": {},
        **fields,
    }
    return JobSight(BatchJob.model_validate(document), "abc", loss=loss)


def test_a_terminal_gets_step_loss_and_eta():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with LiveJobs(console) as live:
        live.show([sight("adapting", step=42, loss=0.1234)])
    shown = console.file.getvalue()
    assert all(text in shown for text in ("abc", "adapting", "42/150", "0.1234", "12.5 s"))


def test_without_a_terminal_every_change_is_a_line():
    console = Console(file=io.StringIO(), force_terminal=False, width=100)
    with LiveJobs(console) as live:
        for phase in ("queued", "queued", "adapting", "adapting", "sampling", "succeeded"):
            live.show([sight(phase)])
    assert console.file.getvalue().splitlines() == [
        "abc: queued",
        "abc: adapting",
        "abc: sampling",
        "abc: succeeded",
    ]


def test_why_a_job_failed_is_in_its_line():
    console = Console(file=io.StringIO(), force_terminal=False, width=100)
    with LiveJobs(console) as live:
        live.show([sight("failed", error={"code": "diverged", "message": "step 3"})])
    assert console.file.getvalue() == "abc: failed, diverged: step 3\n"


def test_many_waiting_jobs_do_not_fill_the_screen():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with LiveJobs(console) as live:
        live.show([sight("adapting", step=1, loss=1.0), *[sight("queued")] * 99])
    assert "and 99 more" in console.file.getvalue()


def test_a_sparkline_goes_from_high_to_low():
    assert sparkline([8.0, 4.0, 1.0], width=10) == "█▄▁"
    assert len(sparkline([float(i) for i in range(1000)], width=40)) == 40
    assert sparkline([1.0, 1.0], width=5) == "▁▁"
    assert sparkline([], width=5) == ""
