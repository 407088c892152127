"""What one run shows of itself, facet by facet, and which facets of two runs differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

FIRST_STEP: Final = frozenset({"first_loss", "first_grad_norm"})
LATER_STEPS: Final = frozenset({"later_losses", "later_grad_norms"})
RESULT: Final = frozenset({"final_weights", "final_norm", "log_probabilities"})
"""Another adapter, which the sampler therefore scores its own text with differently."""

OTHER_UPDATES: Final = LATER_STEPS | RESULT
"""What follows if the first update already differs."""
OTHER_TRAINING: Final = FIRST_STEP | OTHER_UPDATES
"""What follows if the first step sees something else."""

TALLIES: Final = frozenset({"candidates", "attempts", "usage.refusals", "usage.sampled_tokens"})
"""What is counted from the completions: free to change where they, or the probabilities behind them, do."""


class AllBut(frozenset[str]):
    """Every facet that a run has but these."""

    __slots__ = ()


def select(patterns: frozenset[str] | set[str], facets: set[str]) -> set[str]:
    """The facets that the patterns name: by name, or by how they begin where a pattern ends in `*`."""
    begins = tuple(pattern.removesuffix("*") for pattern in patterns if pattern.endswith("*"))
    names = {pattern for pattern in patterns if not pattern.endswith("*")}
    chosen = names | {facet for facet in facets if begins and facet.startswith(begins)}
    return facets - chosen if isinstance(patterns, AllBut) else chosen


class Stream(tuple[Any, ...]):
    """Things in the order in which they came; two streams agree if the shorter one is the beginning of the other."""

    __slots__ = ()


class BySteps(dict[int, Any]):
    """Something by step number; two of them agree if they do in the steps that both have."""


class Close(tuple[float, ...]):
    """Numbers that agree within 1e-4: batches of other sizes round differently. Of two lengths, as streams do."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """The facets of every job of a batch, in the order of the request."""

    jobs: tuple[Mapping[str, Any], ...]

    def __getitem__(self, facet: str) -> Any:
        return self.jobs[0][facet]


def changed(before: Observation, after: Observation) -> set[str]:
    """The facets in which some job of one run differs from the same job of the other."""
    return {
        facet
        for one, other in zip(before.jobs, after.jobs, strict=True)
        for facet in one.keys() | other.keys()
        if facet not in one or facet not in other or not _agree(one[facet], other[facet])
    }


def _agree(one: Any, other: Any) -> bool:
    if isinstance(one, Close):
        return all(abs(a - b) < 1e-4 for a, b in zip(one, other, strict=False))
    if isinstance(one, Stream):
        return all(a == b for a, b in zip(one, other, strict=False))
    if isinstance(one, BySteps):
        return all(one[step] == other[step] for step in one.keys() & other.keys())
    return bool(one == other)
