"""Writes the measured parts of docs/benchmarks.md anew, from the committed results.

    python -m benchmarks.tables docs/benchmarks.md

A part stands between `<!-- NAME: written by python -m benchmarks.tables -->` and `<!-- end of NAME -->`.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks import (
    adapting_profile_tables,
    adapting_tables,
    calibration_tables,
    growth_tables,
    overhead_tables,
    pipeline_tables,
    pretraining_tables,
    quality_tables,
    sampling_tables,
)
from benchmarks.markdown import Part, Results
from benchmarks.results import (
    ADAPT,
    ADAPT_GPU,
    ADAPT_PROFILE,
    CALIBRATION,
    GROWTH,
    ONE_SKILL,
    OVERHEAD,
    PIPELINE,
    PRETRAINING,
    QUALITY,
    QUALITY_MEDIAN,
    SAMPLING,
    read,
)

BENCHMARKS: Final[Mapping[Path, Mapping[str, Part]]] = {
    SAMPLING: sampling_tables.PARTS,
    CALIBRATION: calibration_tables.PARTS,
    ADAPT: adapting_tables.PARTS,
    ADAPT_GPU: adapting_tables.GPU_PARTS,
    ADAPT_PROFILE: adapting_profile_tables.PARTS,
    OVERHEAD: overhead_tables.PARTS,
    PIPELINE: pipeline_tables.PARTS,
    GROWTH: growth_tables.PARTS,
    QUALITY: quality_tables.PARTS,
    QUALITY_MEDIAN: quality_tables.MEDIAN_PARTS,
    PRETRAINING: pretraining_tables.PARTS,
    ONE_SKILL: pretraining_tables.ONE_SKILL_PARTS,
}
"""Where a benchmark's results are, and what writes its parts from them."""
PART: Final = re.compile(
    r"(?P<begin><!-- (?P<name>[a-z-]+): written by [^>]*-->\n).*?(?P<end><!-- end of (?P=name) -->)", re.DOTALL
)


def committed() -> dict[Path, Results]:
    """The results of every benchmark that was measured."""
    found = {file: read(file) for file in BENCHMARKS}
    return {file: results for file, results in found.items() if results is not None}


def written(page: str, results: Mapping[Path, Results]) -> str:
    """The page with all its parts as the results have them. Raises `KeyError` for a part that is none of ours."""
    sources = {name: (file, part) for file, parts in BENCHMARKS.items() for name, part in parts.items()}

    def anew(match: re.Match[str]) -> str:
        file, part = sources[match["name"]]
        text = part(results[file]) if file in results else "Not measured yet.\n"
        return f"{match['begin']}{text}{match['end']}"

    return PART.sub(anew, page)


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(written(page.read_text(encoding="utf-8"), committed()), encoding="utf-8")
