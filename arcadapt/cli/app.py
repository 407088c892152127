"""All commands under one name, and what becomes of their errors."""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from arcadapt.cli import datasets, jobs, models, stack, studies
from arcadapt.cli.exits import EXPECTED, HELP, exit_code

app = typer.Typer(
    help="Adapt a language model to ARC-AGI tasks, one at a time, and answer them.",
    epilog=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in (stack.app, jobs.app, datasets.app, studies.app, models.app):
    app.add_typer(part)
app.add_typer(models.registry, name="models")
app.add_typer(datasets.files, name="datasets")


def main() -> None:
    """Runs the command that the arguments name."""
    try:
        app(prog_name="arcadapt")
    except EXPECTED as error:
        Console(stderr=True, highlight=False).print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
        sys.exit(exit_code(error))
