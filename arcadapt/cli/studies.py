"""The command `experiment`."""

# ruff: noqa: PLC0415 - commands load what they need when they run, so that --help is there at once

from pathlib import Path
from typing import Annotated

import typer

from arcadapt.cli.options import ApiKey, Json, Url, Workers

app = typer.Typer()


@app.command()
def experiment(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Settings, grid, tasks and seeds as YAML or JSON.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the results; else results/ beside FILE.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until the jobs are finished.")] = True,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Jobs that failed are missing too, not only lost or cancelled ones.")
    ] = False,
    workers: Workers = 1,
    as_json: Json = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Run every combination of settings, tasks and seeds, and write the table and the loss curves.

    Uses the server that is named or runs here, else the local stack for the time of the command. Ctrl-C loses nothing:
    the same command goes on with what is missing.
    """
    from arcadapt.cli import experimenting

    if wait:
        experimenting.run(
            file,
            out,
            retry_failed=retry_failed,
            num_workers=workers,
            as_json=as_json,
            url=url,
            api_key=api_key,
        )
    else:
        experimenting.submit_only(file, retry_failed=retry_failed, as_json=as_json, url=url, api_key=api_key)
