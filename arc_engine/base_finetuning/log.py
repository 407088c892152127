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

    def forget_after(self, step: int) -> None:
        """Drops the records of steps that a resumed run makes again, and a line that was cut off."""
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True) if self._path.exists() else []
        partial = self._path.with_suffix(".partial")
        whole = (line for line in lines if line.endswith("\n"))
        partial.write_text("".join(line for line in whole if json.loads(line)["step"] <= step), encoding="utf-8")
        partial.replace(self._path)
