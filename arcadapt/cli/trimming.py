"""`arcadapt models trim` and `arcadapt models convert`. Loads torch."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from arc_engine.base_models.gguf import ConvertedPrecision, convert
from arc_engine.base_models.sources import resolve
from arc_engine.base_models.trimming import ENCODERS_IN_USE, trim
from arc_engine.encoders import parse_encoder
from arc_engine.errors import InvalidEncoder
from arcadapt.cli.output import print_json, progress, results
from arcadapt.errors import InvalidOverride
from jobs.config import models_folder


def trim_model(
    base: str, out: Path, *, revision: str | None, keep: Path | None, grid_encoders: Sequence[str], as_json: bool
) -> None:
    """Trims and reports. The encoders are those in common use and the given ones."""
    for expression in grid_encoders:
        try:
            parse_encoder(expression)
        except InvalidEncoder as error:
            raise InvalidOverride(f"{expression}: {error}") from error
    with progress().status("trimming"):
        folder = resolve(base, revision=revision, models_dir=models_folder())
        report = trim(folder, out, keep=_read(keep), grid_encoders=(*ENCODERS_IN_USE, *grid_encoders))
    if as_json:
        print_json({**asdict(report), "folder": str(report.folder)})
    else:
        for name, value in asdict(report).items():
            results().print(f"{name}: {value}", soft_wrap=True)


def convert_model(gguf_file: Path, out: Path, *, precision: ConvertedPrecision, as_json: bool) -> None:
    """Converts and says where to."""
    with progress().status("converting"):
        folder = convert(gguf_file, out, precision=precision)
    print_json({"folder": str(folder)}) if as_json else results().print(str(folder), soft_wrap=True)


def _read(keep: Path | None) -> str:
    if keep is None:
        return ""
    try:
        return keep.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOverride(f"{keep}: {error}") from error
