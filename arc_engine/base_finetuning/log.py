"""The log of a run: one JSON object a line, never ahead of what a resumed run will make again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

LOG_NAME: Final = "log.jsonl"


class RunLog:
    """`log.jsonl` in the run's folder. Every record has a `kind` and the `step` after which it was written."""

    def __init__(self, out_dir: Path) -> None:
        self._path = out_dir / LOG_NAME

    def write(self, record: dict[str, Any]) -> None:
        """Appends one record."""
        with self._path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")

    def last(self, kind: str) -> dict[str, Any] | None:
        """The newest record of this kind."""
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        records: Iterator[dict[str, Any]] = map(json.loads, reversed(lines))
        return next((record for record in records if record["kind"] == kind), None)

    def forget_after(self, step: int, *, validated_step: int) -> None:
        """Drops what a resumed run writes again: records of later steps and validations, and a line cut short."""
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True) if self._path.exists() else []
        kept = []
        for line in lines:
            if line.endswith("\n"):
                record = json.loads(line)
                if record["step"] <= (validated_step if record["kind"] == "validation" else step):
                    kept.append(line)
        partial = self._path.with_suffix(".partial")
        partial.write_text("".join(kept), encoding="utf-8")
        partial.replace(self._path)
