"""What is measured from request to submission: which tasks, under which settings."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from arc_engine.settings import AdaptationSettings, SamplingSettings, SelectionSettings, SolveSettings


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides what is done, whatever its seconds. `base` is the folder of the model named `base_model`."""

    base_model: str
    base: Path
    task_ids: tuple[str, ...]
    steps: int
    num_views: int
    max_new_tokens: int | None
    num_workers: int
    seed: int

    def settings(self) -> SolveSettings:
        """Of every task, whichever way it is answered: the defaults, but for these numbers, the scripts' vote, and all
        steps with whole batches, as theirs are."""
        return SolveSettings(
            base_model=self.base_model,
            adaptation=AdaptationSettings(max_steps=self.steps, batch_tokens=None, stop_loss=None, seed=self.seed),
            sampling=SamplingSettings(
                backend="vllm",
                method="greedy",
                num_views=self.num_views,
                max_new_tokens=self.max_new_tokens,
                seed=self.seed,
            ),
            selection=SelectionSettings(method="vote"),
        )

    def digest(self) -> str:
        """A short name that plans share only if they are the same, and mean the same settings."""
        written = json.dumps([asdict(self), self.settings().model_dump()], default=str, sort_keys=True)
        return hashlib.sha256(written.encode()).hexdigest()[:12]
