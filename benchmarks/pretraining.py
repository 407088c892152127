"""What decides how much a small base model learns in a given time: one pretraining run per variant, each on one core.

    python -m benchmarks.pretraining --workers 2

Every variant is `pretraining_base.yaml` with something else in it, trained for the same wall time on one thread, and
asked the same held-out tasks. Writes `benchmarks/results/pretraining.json`. What is trained stays in the work folder,
and what the results hold already is not trained again: more variants can be asked for later.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from arc_engine.pretraining.recipe import Recipe
from benchmarks.machine import machine, versions
from benchmarks.pretraining_row import Row, row_of
from benchmarks.results import PRETRAINING, read, write

BASE: Final = Path(__file__).with_name("pretraining_base.yaml")
Changes: TypeAlias = Mapping[str, Any]
VARIANTS: Final[Mapping[str, Changes]] = {
    "base": {},
    "no guidance": {"guidance": None},
    "even beginning": {"beginning": {"query_key_gain": 1.0, "zero_outputs": False}},
    # Only coordinates can be guided: these are to be compared with no guidance.
    "plain digits": {"guidance": None, "grid_encoder": "MinimalGridEncoder()"},
    "row numbers": {"guidance": None, "grid_encoder": "RowNumberEncoder(MinimalGridEncoder())"},
    "shape header": {"guidance": None, "grid_encoder": "GridShapeEncoder(MinimalGridEncoder())"},
    "six heads": {"model": {"num_heads": 6}},
    "wide, 4 layers of 256": {
        "model": {"hidden_size": 256, "num_layers": 4, "intermediate_size": 672, "num_heads": 4},
        "guidance": {"applying_layer": 2, "recalling_layer": 3},
    },
    "deep, 10 layers of 128": {
        "model": {"hidden_size": 128, "num_layers": 10, "intermediate_size": 384, "num_heads": 2}
    },
    "half the rates": {"optimisation": {"muon_learning_rate": 0.00125, "adamw_learning_rate": 0.0015}},
    "twice the rates": {"optimisation": {"muon_learning_rate": 0.005, "adamw_learning_rate": 0.006}},
    "no ARC tasks": {"arc_share": 0.0},
    "half ARC tasks": {"arc_share": 0.5},
    "batches of 4,800": {"batch_tokens": 4800},
}


def main() -> None:
    """Trains and writes."""
    arguments = _arguments()
    rows = known_rows(arguments.out, plan=_plan(arguments))
    missing = [name for name in arguments.variants if name not in rows]
    train = partial(_trained, hours=arguments.hours, work=arguments.work)
    with ThreadPoolExecutor(arguments.workers) as pool:  # of what wait for processes
        for name, row in zip(missing, pool.map(train, missing), strict=True):
            rows[name] = row
            write(_document([rows[name] for name in VARIANTS if name in rows], arguments), arguments.out)
            print(f"{name}: {row}", flush=True)


def varied(name: str, *, hours: float) -> Recipe:
    """The recipe of a variant. `arc_share` is that of every stage which has ARC tasks, `batch_tokens` that of all."""
    fields = yaml.safe_load(BASE.read_text(encoding="utf-8"))
    for field, value in VARIANTS[name].items():
        if field == "arc_share":
            for stage in (stage for stage in fields["stages"] if field in stage):
                stage[field] = [value, value]
        elif field == "batch_tokens":
            for stage in fields["stages"]:
                stage[field] = value
        else:
            fields[field] = {**fields.get(field, {}), **value} if isinstance(value, dict) else value
    return Recipe.model_validate({**fields, "name": name, "hours": hours})


def _trained(name: str, *, hours: float, work: Path) -> Row:
    folder = work / name.replace(" ", "-").replace(",", "")
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(varied(name, hours=hours).model_dump(mode="json")), encoding="utf-8")
    command = [sys.executable, "-m", "arcadapt", "pretrain", "--config", str(recipe), "--out", str(folder / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)  # noqa: S603 - our own command
    return {"variant": name, "changes": VARIANTS[name], **row_of(folder / "run")}


def known_rows(file: Path, *, plan: Mapping[str, Any]) -> dict[str, Row]:
    """What `file` has of the same time, recipe and changes, whichever machine it is from."""
    document = read(file)
    if document is None or not _is_same(document["plan"], plan):
        return {}
    return {row["variant"]: row for row in document["rows"] if row["changes"] == VARIANTS.get(row["variant"])}


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two plans ask for the same, though one be older than some of the recipe's fields."""
    recipes = [Recipe.model_validate(plan["recipe"]) for plan in (one, other)]
    return bool(one["hours"] == other["hours"] and recipes[0] == recipes[1])


def _plan(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"hours": arguments.hours, "recipe": varied("base", hours=arguments.hours).model_dump(mode="json")}


def _document(rows: Sequence[Row], arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", "-m", "benchmarks.pretraining", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "figures": {"num_variants": len(rows), "best": max(rows, key=lambda row: row["synthetic_exact"])["variant"]},
        "plan": _plan(arguments),
        "rows": rows,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--hours", type=float, default=0.5, help="of every run, on one core")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--work", type=Path, default=Path(".bench/pretraining"), help="where the runs stay")
    parser.add_argument("--out", type=Path, default=PRETRAINING)
    return parser.parse_args()


if __name__ == "__main__":
    main()
