"""`arcadapt merge`. Loads torch."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from arc_engine.base_models.merging import merge
from arc_engine.base_models.sources import resolve
from arcadapt.cli.output import print_json, progress, results
from arcadapt.errors import ArcadaptError
from jobs.adapter_zip import unpack
from jobs.errors import InvalidAdapterZip


def merge_adapter(base: str, adapter: Path, out: Path, *, as_json: bool) -> None:
    """Merges and reports. An adapter may still be in the zip that it was downloaded as."""
    with progress().status("merging"), _unpacked(adapter) as folder:
        report = merge(resolve(base), folder, out)
    if as_json:
        print_json({name: str(value) if isinstance(value, Path) else value for name, value in asdict(report).items()})
    else:
        for name, value in asdict(report).items():
            results().print(f"{name}: {value}", soft_wrap=True)


@contextmanager
def _unpacked(adapter: Path) -> Iterator[Path]:
    if adapter.suffix != ".zip":
        yield adapter
        return
    with tempfile.TemporaryDirectory(prefix="arcadapt-adapter-") as folder:
        try:
            unpack(adapter, Path(folder))
        except (InvalidAdapterZip, OSError) as error:
            raise ArcadaptError(f"{adapter}: {error}") from error
        yield Path(folder)
