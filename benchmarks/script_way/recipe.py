"""What all the scripts work from: the base, the settings and the tasks, in one file."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from arc_engine.prompts.writer import PromptWriter
from arc_engine.settings import AdaptationSettings, SolveSettings
from arc_engine.solving import task_views, tokens_of_largest_grid
from arc_engine.task_views import TaskViews
from arc_engine.tasks import Task, parse_task
from arc_engine.tokens import Tokenizer


@dataclass(frozen=True, slots=True)
class Recipe:
    """The settings say what a job with them says; `base` is a folder, `dtype` torch's name of the base's precision."""

    base: Path
    dtype: str
    settings: SolveSettings
    tasks: dict[str, Task]

    @classmethod
    def read(cls, file: Path) -> Self:
        """What `write` wrote."""
        document = json.loads(file.read_text(encoding="utf-8"))
        return cls(
            base=Path(document["base"]),
            dtype=document["dtype"],
            settings=SolveSettings.model_validate_json(json.dumps(document["settings"])),
            tasks={task_id: parse_task(task)[0] for task_id, task in document["tasks"].items()},
        )

    def write(self, file: Path) -> Path:
        """The file, written; test outputs are not in it."""
        document = {
            "base": str(self.base),
            "dtype": self.dtype,
            "settings": self.settings.model_dump(mode="json"),
            "tasks": {task_id: task.to_json() for task_id, task in self.tasks.items()},
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document), encoding="utf-8")
        return file

    def only(self, task_ids: Iterable[str]) -> Self:
        """The same for these tasks."""
        return replace(self, tasks={task_id: self.tasks[task_id] for task_id in task_ids})

    @property
    def adaptation(self) -> AdaptationSettings:
        """How adapters are trained. Raises `ValueError` for settings without training."""
        if self.settings.adaptation is None:
            raise ValueError("the scripts have nothing to compare without a training")
        return self.settings.adaptation

    def writer(self, tokenizer: Tokenizer) -> PromptWriter:
        """Writes the prompts."""
        return PromptWriter.of(self.settings.prompt, tokenizer)

    def views(self, task: Task, *, tokenizer: Tokenizer, max_positions: int) -> TaskViews:
        """The task under the views that it is answered under."""
        return task_views(task, self.settings, tokenizer=tokenizer, max_positions=max_positions)

    def max_new_tokens(self, tokenizer: Tokenizer) -> int:
        """Of one answer."""
        return self.settings.sampling.max_new_tokens or tokens_of_largest_grid(self.writer(tokenizer))
