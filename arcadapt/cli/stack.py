"""Commands that run the local stack: `up` and `demo`."""

# ruff: noqa: PLC0415 - commands load what they need when they run, so that --help is there at once

from typing import Annotated

import typer

from arcadapt.cli.options import Json

app = typer.Typer()

Port = Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Else 8000, or any free one.")]


@app.command()
def up(
    *,
    host: Annotated[str, typer.Option("--host", help="Others than loopback need $ARCADAPT_API_KEYS.")] = "127.0.0.1",
    port: Port = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="One per GPU; each takes jobs.")] = 1,
) -> None:
    """Run the whole service here, in .arcadapt/, until Ctrl-C.

    PostgreSQL, Valkey, API, workers and beat; state is kept between runs. $ARCADAPT_DATABASE_URL and
    $ARCADAPT_BROKER_URL name servers to use instead of the embedded ones.
    """
    from arcadapt.cli import running

    running.run_until_interrupted(host=host, port=port, num_workers=workers)


@app.command()
def demo(
    *,
    num_tasks: Annotated[int, typer.Option("--tasks", min=1, max=400, help="How many tasks.")] = 6,
    split: Annotated[str, typer.Option("--split", help="training or evaluation.")] = "evaluation",
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Adapt to real ARC-AGI-1 tasks and answer them, with the whole stack, from nothing."""
    from arcadapt.cli import demonstrating

    demonstrating.demonstrate(num_tasks=num_tasks, split=split, port=port, as_json=as_json)
