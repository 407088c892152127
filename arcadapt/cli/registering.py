"""`arcadapt models register`."""

from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from arc_engine.base_models.plain_lora import read_plain_lora
from arc_engine.base_models.reading import read_base
from arc_engine.base_models.sources import resolve, resolve_adapter
from arc_engine.settings import SolveSettings
from arcadapt.cli.output import progress, results
from arcadapt.cli.unpacking import unpacked
from arcadapt.errors import InvalidOverride, ServerUnreachable
from arcadapt.stack.database import register_base_model
from arcadapt.stack.folder import StackFolder
from jobs.claims import BaseModelSource
from jobs.config import models_folder


def register(name: str, base: BaseModelSource, *, database_url: str | None) -> None:
    """Checks that jobs can name the model and workers can read it, and writes it into the service's database.

    An adapter of its own may be a folder, an archive or whatever else a source may be; a worker merges it into the base
    when a job first needs that.

    Raises `InvalidOverride` for a name that no job's settings may hold, `BaseModelError` for a model or an adapter that
    is not there or cannot be read, `ArcadaptError` for an archive that holds no adapter.
    """
    _check_name(name)
    url = database_url or _running_stack()
    models_dir = models_folder()
    read_base(resolve(base.source, revision=base.revision, models_dir=models_dir))
    adapter_config = None if base.adapter_source is None else _read_adapter(base, models_dir=models_dir)
    lasting = replace(base, source=_lasting(base.source), adapter_source=_lasting(base.adapter_source))
    with progress().status(f"registering {name}"):
        try:
            register_base_model(url, name=name, base=lasting, adapter_config=adapter_config)
        except SQLAlchemyError as error:
            raise ServerUnreachable(f"cannot write to the service's database: {error}") from error
    adapter = f" with {lasting.adapter_source}" if lasting.adapter_source else ""
    results().print(f"{name}: {lasting.source}{adapter}", soft_wrap=True)


def _read_adapter(base: BaseModelSource, *, models_dir: Path | None) -> dict[str, Any]:
    source = str(base.adapter_source)
    if source.endswith(".zip"):
        with unpacked(Path(source)) as folder:
            return read_plain_lora(folder)
    return read_plain_lora(resolve_adapter(source, revision=base.adapter_revision, models_dir=models_dir))


@overload
def _lasting(source: str) -> str: ...
@overload
def _lasting(source: None) -> None: ...
def _lasting(source: str | None) -> str | None:
    # A worker runs in another folder, perhaps on another day: only an absolute path stays true.
    return str(Path(source).absolute()) if source is not None and Path(source).exists() else source


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
