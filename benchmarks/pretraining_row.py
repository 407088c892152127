"""What came of a pretraining run."""

import json
from pathlib import Path
from typing import Any, Final, TypeAlias

from arc_engine.pretraining.export import FACTS_NAME
from arcadapt.cli.pretraining import MODEL_FOLDER
from benchmarks.machine import machine

Row: TypeAlias = dict[str, Any]
COPIED: Final = ("parameters", "steps", "tokens", "synthetic_exact", "unseen_families_exact", "arc_held_out_exact")


def row_of(run: Path) -> Row:
    """Measured on the exported weights."""
    facts = json.loads((run / MODEL_FOLDER / FACTS_NAME).read_text(encoding="utf-8"))
    return {"cpu": machine()["cpu"], **{name: facts[name] for name in COPIED}}
