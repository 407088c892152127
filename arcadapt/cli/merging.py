"""`arcadapt merge`. Loads torch."""

from dataclasses import asdict
from pathlib import Path

from arc_engine.base_models.merging import merge
from arc_engine.base_models.sources import resolve
from arcadapt.cli.output import print_json, progress, results
from arcadapt.cli.unpacking import unpacked
from jobs.config import models_folder


def merge_adapter(base: str, adapter: Path, out: Path, *, revision: str | None, as_json: bool) -> None:
    """Merges and reports. An adapter may still be in the zip that it was downloaded as."""
    with progress().status("merging"), unpacked(adapter) as folder:
        report = merge(resolve(base, revision=revision, models_dir=models_folder()), folder, out)
    if as_json:
        print_json({name: str(value) if isinstance(value, Path) else value for name, value in asdict(report).items()})
    else:
        for name, value in asdict(report).items():
            results().print(f"{name}: {value}", soft_wrap=True)
