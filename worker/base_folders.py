"""Where the base models of jobs lie on this machine; a base model with an adapter of its own is merged here, once."""

import hashlib
import json
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import structlog

from arc_engine.base_models.manifest import MANIFEST_NAME, hash_folder
from arc_engine.base_models.merging import merge
from arc_engine.base_models.plain_lora import read_plain_lora
from arc_engine.base_models.reading import read_base
from arc_engine.base_models.sources import is_name, resolve, resolve_adapter
from arc_engine.errors import BaseModelError
from arc_engine.hashing import hash_file
from jobs.adapter_zip import unpack
from jobs.claims import BaseModelSource
from jobs.errors import InvalidAdapterZip

_Stamp: TypeAlias = tuple[tuple[str, int, int], ...]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BaseFolders:
    """Finds, and where need be makes, the folder of a base model. Every method raises `BaseModelError`.

    What it makes lies below `work_dir` under names that say what is in it, so that another adapter, or another base of
    the same name, never meets what was made of an earlier one. Workers that share `work_dir` may race.
    """

    work_dir: Path
    models_dir: Path | None = None

    def unmerged(self, base: BaseModelSource) -> Path:
        """The base model without its adapter."""
        return resolve(base.source, revision=base.revision, models_dir=self.models_dir)

    def adapter(self, base: BaseModelSource) -> Path:
        """The base model's own adapter, unpacked if it is an archive."""
        if base.adapter_source is None:
            raise BaseModelError(f"{base.source} is registered without an adapter")
        if base.adapter_source.endswith(".zip") and not is_name(base.adapter_source):
            return self._unpacked(Path(base.adapter_source))
        return resolve_adapter(base.adapter_source, revision=base.adapter_revision, models_dir=self.models_dir)

    def merged(self, base: BaseModelSource) -> Path:
        """The base model with its adapter folded in, where it has one. Takes its time the first time."""
        folder = self.unmerged(base)
        if base.adapter_source is None:
            return folder
        adapter = self.adapter(base)
        out = self._merged_folder(folder, adapter)
        if not out.is_dir():
            log.info("merging", base=str(folder), adapter=str(adapter), out=str(out))
            try:
                merge(folder, adapter, out)
            except (BaseModelError, OSError):
                if not out.is_dir():  # otherwise another worker was faster
                    raise
        return out

    def is_merged(self, base: BaseModelSource) -> bool:
        """Whether there is nothing left to merge here."""
        if base.adapter_source is None:
            return True
        return self._merged_folder(self.unmerged(base), self.adapter(base)).is_dir()

    def _merged_folder(self, folder: Path, adapter: Path) -> Path:
        return self.work_dir / "merged-models" / f"{folder.name}-{_content_key(folder, adapter)[:16]}"

    def describe(self, base: BaseModelSource) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """The adapter's configuration and the merged model's manifest; both None where there is no adapter."""
        folder = self.merged(base)
        if base.adapter_source is None:
            read_base(folder)
            return None, None
        manifest = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
        return read_plain_lora(self.adapter(base)), manifest

    def _unpacked(self, archive: Path) -> Path:
        if not archive.is_file():
            raise BaseModelError(f"{archive}: no such file")
        out = self.work_dir / "base-adapters" / hash_file(archive)[:16]
        if out.is_dir():
            return out
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".") as scratch:
            try:
                unpack(archive, Path(scratch) / "adapter")
                (Path(scratch) / "adapter").rename(out)
            except InvalidAdapterZip as error:
                raise BaseModelError(f"{archive}: {error}") from error
            except OSError:
                if not out.is_dir():
                    raise
        return out


def _content_key(base: Path, adapter: Path) -> str:
    return _hash_both(base, adapter, _stamp(base), _stamp(adapter))


@lru_cache(maxsize=16)  # reading gigabytes for every job would be felt
def _hash_both(base: Path, adapter: Path, *_stamps: _Stamp) -> str:
    text = json.dumps([hash_folder(base), hash_folder(adapter)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(folder: Path) -> _Stamp:
    """Changes when a file of the folder does."""
    stats = [(path.name, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
