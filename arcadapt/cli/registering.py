"""`arcadapt models register`."""

from pathlib import Path

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from arc_engine.base_models.reading import read_base
from arc_engine.base_models.sources import resolve
from arc_engine.settings import SolveSettings
from arcadapt.cli.output import progress, results
from arcadapt.errors import InvalidOverride, ServerUnreachable
from arcadapt.stack.database import register_base_model
from arcadapt.stack.folder import StackFolder


def register(name: str, source: str, *, revision: str | None, database_url: str | None) -> None:
    """Checks that jobs can name the model and workers can read it, and writes it into the service's database.

    Raises `InvalidOverride` for a name that no job's settings may hold, `BaseModelError` for a model that is not there
    or cannot be read.
    """
    _check_name(name)
    url = database_url or _running_stack()
    folder = resolve(source, revision=revision)
    read_base(folder)
    # A worker runs in another folder, perhaps on another day: only an absolute path stays true.
    lasting = str(folder) if Path(source).is_dir() else source
    with progress().status(f"registering {name}"):
        try:
            register_base_model(url, name=name, source=lasting, revision=revision)
        except SQLAlchemyError as error:
            raise ServerUnreachable(f"cannot write to the service's database: {error}") from error
    results().print(f"{name}: {lasting}", soft_wrap=True)


def _check_name(name: str) -> None:
    try:
        SolveSettings(base_model=name)
    except ValidationError as error:
        raise InvalidOverride(
            f"no job could name {name!r} in settings.base_model: {error.errors()[0]['msg']}"
        ) from error


def _running_stack() -> str:
    running = StackFolder.of(Path.cwd()).announced()
    if running is None:
        raise ServerUnreachable(
            "no stack runs in this folder; start one with `arcadapt up`, or name the service's database with "
            "--database-url or ARCADAPT_DATABASE_URL"
        )
    return running.database_url
