"""Adapters that users name: folders, or the zips that they were downloaded as."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arcadapt.errors import ArcadaptError
from jobs.adapter_zip import unpack
from jobs.errors import InvalidAdapterZip


@contextmanager
def unpacked(adapter: Path) -> Iterator[Path]:
    """The adapter's folder, for as long as the context lasts; a zip is unpacked. Raises `ArcadaptError`."""
    if adapter.suffix != ".zip":
        yield adapter
        return
    with tempfile.TemporaryDirectory(prefix="arcadapt-adapter-") as folder:
        try:
            unpack(adapter, Path(folder))
        except (InvalidAdapterZip, OSError) as error:
            raise ArcadaptError(f"{adapter}: {error}") from error
        yield Path(folder)
