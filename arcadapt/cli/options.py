"""Options that several commands share. Light, so that `--help` loads nothing but typer."""

from typing import Annotated, TypeAlias

import typer

Url: TypeAlias = Annotated[
    str | None,
    typer.Option("--url", help="The server. Else $ARCADAPT_URL, else the stack that runs in this folder."),
]
ApiKey: TypeAlias = Annotated[
    str | None, typer.Option("--api-key", envvar="ARCADAPT_API_KEY", help="For servers that ask for one.")
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
Timeout: TypeAlias = Annotated[
    float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="Stop waiting then; the jobs go on.")
]
Workers: TypeAlias = Annotated[
    int,
    typer.Option(
        "--workers",
        min=1,
        max=64,
        help="Workers of the stack that this command starts itself, if it does: one per GPU.",
    ),
]
