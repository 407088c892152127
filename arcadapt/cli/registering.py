"""`arcadapt models register`."""

from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from arc_engine.base_models.sources import resolve
from arcadapt.cli.output import progress, results
from arcadapt.errors import ServerUnreachable
from arcadapt.stack.database import register_base_model
from arcadapt.stack.folder import StackFolder


def register(name: str, source: str, *, revision: str | None, database_url: str | None) -> None:
    """Checks that the model is there, and writes it into the service's database."""
    url = database_url or _running_stack()
    folder = resolve(source, revision=revision)
    # A worker runs in another folder, perhaps on another day: only an absolute path stays true.
    lasting = str(folder) if Path(source).is_dir() else source
    with progress().status(f"registering {name}"):
        try:
            register_base_model(url, name=name, source=lasting, revision=revision)
        except SQLAlchemyError as error:
            raise ServerUnreachable(f"cannot write to the service's database: {error}") from error
    results().print(f"{name}: {lasting}", soft_wrap=True)


def _running_stack() -> str:
    running = StackFolder.of(Path.cwd()).announced()
    if running is None:
        raise ServerUnreachable(
            "no stack runs in this folder; start one with `arcadapt up`, or name the service's database with "
            "--database-url or ARCADAPT_DATABASE_URL"
        )
    return running.database_url
