"""What every sampling backend does, in types without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from arc_engine.errors import EngineError


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids to continue. `seed` decides what is drawn for this prompt, whatever else is in the batch."""

    ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Greedy:
    """The likeliest token, always: one completion per prompt."""


@dataclass(frozen=True, slots=True)
class Nucleus:
    """`num_samples` completions per prompt, drawn at `temperature` from the likeliest tokens that hold `top_p` of the
    probability (Holtzman et al., 2019, arXiv:1904.09751)."""

    num_samples: int
    temperature: float
    top_p: float


@dataclass(frozen=True, slots=True)
class DepthFirst:
    """Every completion whose probability is at least `min_probability`, likeliest branch first (the ARChitects, 2024).

    There are `1 / min_probability` of them at most. The search of a prompt is cut after `max_nodes` tokens were looked
    at (None: never). Raises `ValueError` for a probability outside (0, 1], which would never end or find nothing, and
    for less than one node.
    """

    min_probability: float
    max_nodes: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.min_probability <= 1:
            raise ValueError(f"min_probability is above 0 and at most 1, not {self.min_probability}")
        if self.max_nodes is not None and self.max_nodes < 1:
            raise ValueError(f"max_nodes is at least 1, not {self.max_nodes}")


Method: TypeAlias = Greedy | Nucleus | DepthFirst


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How the completions of a request are found.

    A completion ends with `stop_token_id`, after `max_new_tokens` tokens (the stop token counts), or where the model's
    context ends. Where `allowed_token_ids` are given no other token is taken; log-probabilities stay the model's own,
    over all tokens. After `time_budget_s` seconds what is not finished is cut off.
    """

    method: Method
    max_new_tokens: int
    stop_token_id: int | None
    allowed_token_ids: tuple[int, ...] | None = None
    time_budget_s: float | None = None


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """An adapter on disk, in PEFT's format. Its files never change once they are sampled from."""

    name: str
    path: Path
    rank: int


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """The prompts of one job, all under one adapter or under none."""

    prompts: tuple[Prompt, ...]
    adapter: AdapterFolder | None
    parameters: SamplingParameters


@dataclass(frozen=True, slots=True)
class Completion:
    """One continuation of a prompt.

    `ids` leaves out the stop token. `log_probability` is the sum over the generated tokens, stop token included, under
    the model's own distribution: before temperature, nucleus, and restriction to allowed tokens. `finished` is False
    where a limit cut it off.
    """

    ids: tuple[int, ...]
    log_probability: float
    finished: bool


@dataclass(frozen=True, slots=True)
class Samples:
    """What was found for one prompt.

    `cut`: a time or node budget ended the search before it was over. A depth-first search lists finished completions
    only, likeliest first; the other methods list every one that they began.
    """

    completions: tuple[Completion, ...]
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and the answers to it whose probabilities are wanted; answers include what closes them."""

    ids: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """The questions of one job, all under one adapter or under none."""

    questions: tuple[Question, ...]
    adapter: AdapterFolder | None


Sampled: TypeAlias = tuple[Samples, ...] | EngineError
"""What became of a sample request: samples per prompt, or why it was refused."""
Scored: TypeAlias = tuple[tuple[float, ...], ...] | EngineError
"""What became of a score request: the log-probability of every answer, question by question, or why it was refused.

An answer that the model's context has no room for has `-inf`.
"""


class Sampler(Protocol):
    """A sampling backend. One call at a time; `close` may come from any thread.

    A request that is refused (`AdapterRefused`, `MethodUnsupported`, `TaskTooLong` when a prompt to continue fills the
    context), or that the backend alone fails at (`SamplerFailed`), has its error in the place of its result; the other
    requests of the call are none the worse for it. Calls raise `SamplerFailed` when the backend itself fails.
    """

    def start(self, *, lora_rank: int = 0) -> None:
        """Begins starting up for adapters of up to `lora_rank` and returns at once; harmless when already started."""
        ...

    def max_positions(self, *, base: Path, lora_rank: int = 0) -> int | None:
        """The longest sequence, in tokens, that the backend takes; None where that is what the model has positions for.

        Where it has to start up to know, it does so for adapters of up to `lora_rank`, and this raises `SamplerFailed`
        as a call would.
        """
        ...

    def sample(self, requests: Sequence[SampleRequest], *, base: Path) -> list[Sampled]:
        """Continues all prompts of all requests together, each request under its own adapter."""
        ...

    def score(self, requests: Sequence[ScoreRequest], *, base: Path) -> list[Scored]:
        """The model's own log-probability of every answer: the sum over its tokens."""
        ...

    def close(self) -> None:
        """Frees what the sampler holds; a call that is under way raises `SamplerFailed`."""
        ...
