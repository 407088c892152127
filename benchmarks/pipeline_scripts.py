"""The script way: every stage a process."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.pipeline_record import Timed, kept
from benchmarks.script_way.recipe import Recipe

ROOT: Final = Path(__file__).parents[1]
ENVIRONMENT: Final = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
"""The base is a folder, and forked processes do not tokenise."""
TUNED_VLLM: Final = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "TORCHDYNAMO_DISABLE": "1"}
"""With what vLLM starts fastest on a processor: without processes of its own, and without compiling the few functions
that `enforce_eager` leaves to be compiled. Our engine does the same."""


class ScriptFailed(Exception):
    """A script ended with an error; the message names its log."""


@dataclass(frozen=True, slots=True)
class Scripts:
    """The scripts for one recipe, in a folder of their own; `environment` is what is exported before they run."""

    recipe: Recipe
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def task(self, task_id: str) -> Timed:
        """Fine-tunes, merges and infers for one task: three processes. What they took is kept."""
        place = self.folder / "tasks" / task_id

        def measure() -> dict[str, Any]:
            recipe = self.recipe.only([task_id]).write(place / "recipe.json")
            adapters, merged = place / "adapters", place / "merged"
            timed = self._run("finetune", recipe, adapters, place=place)
            timed.add(self._run("merge", recipe, adapters / task_id, merged, place=place))
            timed.add(self._run("infer", recipe, merged, self._completions, place=place))
            return asdict(timed)

        return Timed(**kept(place / "record.json", measure))

    def side_by_side(self, num_together: int) -> Timed:
        """Every task, so many at a time, each with its share of the cores. Their stages are `work`: they overlap."""
        shutil.rmtree(self.folder, ignore_errors=True)  # an interrupted run has no seconds
        threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // num_together))}
        shared = replace(self, environment={**self.environment, **threads})
        timed, begun = Timed(), time.perf_counter()
        with ThreadPoolExecutor(num_together) as pool:
            for one in pool.map(shared.task, self.recipe.tasks):
                timed.add(one)
        return replace(timed, seconds=time.perf_counter() - begun, stages={}, work=timed.stages)

    def together(self) -> Timed:
        """Fine-tunes all tasks in one process, and infers for all of them, with their adapters, in another."""
        recipe = self.recipe.write(self.folder / "recipe.json")
        adapters = self.folder / "adapters"
        timed = self._run("finetune", recipe, adapters, place=self.folder)
        timed.add(self._run("infer", recipe, self.recipe.base, self._completions, place=self.folder, after=[adapters]))
        return timed

    def vote(self) -> tuple[Timed, dict[str, Any]]:
        """Makes the submission of all tasks from their completions: one process."""
        recipe, submission = self.recipe.write(self.folder / "recipe.json"), self.folder / "submission.json"
        timed = self._run("vote", recipe, self._completions, submission, place=self.folder)
        return timed, json.loads(submission.read_text(encoding="utf-8"))

    @property
    def _completions(self) -> Path:
        return self.folder / "completions"

    def _run(self, script: str, *arguments: Path, place: Path, after: Iterable[Path] = ()) -> Timed:
        report, log = place / f"{script}.report.json", place / f"{script}.log"
        paths = [*arguments, report, *after]
        command = [sys.executable, "-m", f"benchmarks.script_way.{script}", *map(str, paths)]
        environment = {**os.environ, **ENVIRONMENT, **self.environment}
        with log.open("ab") as output:
            begun = time.perf_counter()
            done = subprocess.run(  # noqa: S603 - our own scripts
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, check=False
            )
            seconds = time.perf_counter() - begun
        if done.returncode:
            raise ScriptFailed(f"{script} ended with {done.returncode}: see {log}")
        said = json.loads(report.read_text(encoding="utf-8"))
        stages = said["stages"] | {"process": seconds - sum(said["stages"].values())}
        return Timed(seconds, stages, counts=said["counts"], last_losses=said["last_losses"])
