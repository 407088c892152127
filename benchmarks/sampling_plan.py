"""Which samplers and selection methods are compared, under which settings."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, get_args

from arc_engine.settings import AdaptationSettings, SamplingSettings, SelectionMethod, SelectionSettings, SolveSettings

SELECTORS: Final[tuple[SelectionMethod, ...]] = get_args(SelectionMethod)
THRESHOLDS: Final = (0.2, 0.1, 0.05)
SAMPLES_PER_VIEW: Final = 4
"""For method sample: one completion per view, drawn, would be a worse greedy."""

GREEDY: Final = "greedy"
SAMPLE: Final = f"sample, {SAMPLES_PER_VIEW} per view"
DFS: Final = tuple(f"dfs {threshold:g}" for threshold in THRESHOLDS)
SAMPLERS: Final = (GREEDY, SAMPLE, *DFS)

ATTEMPT: Final = ("share", "log_probability", "lead", "first", "right", "votes", "num_finding_views")
"""What is kept of an attempt, in this order: `arc_engine.selection.confidence.Features`, whether it is right, and
what its share comes from."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides what is found for a task, whatever its seconds.

    Depth-first searches have `max_nodes` per view instead of a time budget, so that a slower machine finds the same.
    """

    base: Path
    steps: int
    num_views: int
    max_nodes: int
    max_new_tokens: int | None
    seed: int

    def adaptation(self) -> AdaptationSettings:
        """The defaults, but for the number of steps and the seed."""
        return AdaptationSettings(max_steps=self.steps, seed=self.seed)

    def settings(self, sampler: str, selector: SelectionMethod, *, grid_tokens_only: bool = True) -> SolveSettings:
        """The settings of a job that answers this way."""
        sampling = SamplingSettings(
            backend="torch",
            num_views=self.num_views,
            max_new_tokens=self.max_new_tokens,
            grid_tokens_only=grid_tokens_only,
            seed=self.seed,
            **self._method(sampler),
        )
        return SolveSettings(
            adaptation=self.adaptation(), sampling=sampling, selection=SelectionSettings(method=selector)
        )

    def digest(self) -> str:
        """A short name that plans share only if they are the same, and mean the same settings."""
        meant = [self.settings(sampler, selector).model_dump() for sampler in SAMPLERS for selector in SELECTORS]
        written = json.dumps([asdict(self), meant], default=str, sort_keys=True)
        return hashlib.sha256(written.encode()).hexdigest()[:12]

    def _method(self, sampler: str) -> dict[str, Any]:
        if sampler == GREEDY:
            return {"method": "greedy"}
        if sampler == SAMPLE:
            return {"method": "sample", "samples_per_view": SAMPLES_PER_VIEW}
        threshold = THRESHOLDS[DFS.index(sampler)]
        return {"method": "dfs", "min_probability": threshold, "max_nodes": self.max_nodes}
