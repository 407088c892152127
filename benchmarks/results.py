"""The committed results of a benchmark: JSON that shows in a diff what has changed."""

import json
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).parent / "results"
SAMPLING: Final = RESULTS / "sampling.json"
CALIBRATION: Final = RESULTS / "calibration.json"
ADAPT: Final = RESULTS / "adapt.json"
ADAPT_GPU: Final = RESULTS / "adapt-gpu.json"
ADAPT_PROFILE: Final = RESULTS / "adapt-profile.json"
OVERHEAD: Final = RESULTS / "overhead.json"
PIPELINE: Final = RESULTS / "pipeline.json"
GROWTH: Final = RESULTS / "growth.json"
QUALITY: Final = RESULTS / "quality.json"
QUALITY_MEDIAN: Final = RESULTS / "quality-median.json"
ONE_SKILL: Final = RESULTS / "one-skill.json"
PRETRAINING: Final = RESULTS / "pretraining.json"


def write(document: dict[str, Any], file: Path) -> None:
    """One item of a list a line; everything else indented."""
    fields = (f"{json.dumps(name)}: {_value(value)}" for name, value in document.items())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{\n" + ",\n".join(fields) + "\n}\n", encoding="utf-8")


def read(file: Path) -> dict[str, Any] | None:
    """What `write` wrote; None where nothing was measured yet."""
    if not file.exists():
        return None
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


def _value(value: Any) -> str:  # noqa: ANN401 - JSON
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(json.dumps(item, separators=(",", ":")) for item in value) + "\n]"
    return json.dumps(value, indent=2)
