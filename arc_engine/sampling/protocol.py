"""What every sampling backend does, in types without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids to continue. `seed` decides what is drawn for this prompt, whatever else is in the batch."""

    ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How completions are drawn, the same for all prompts of a request.

    `temperature` 0 is greedy decoding. A completion ends with `stop_token_id`, after `max_new_tokens` tokens (the stop
    token counts), or where the model's context ends. Raises `ValueError` for several greedy samples: they are equal.
    """

    num_samples: int
    temperature: float
    top_p: float
    max_new_tokens: int
    stop_token_id: int | None

    def __post_init__(self) -> None:
        if self.greedy and self.num_samples != 1:
            raise ValueError("greedy decoding gives one sample per prompt")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0


@dataclass(frozen=True, slots=True)
class AdapterFolder:
    """An adapter on disk, in PEFT's format. Its files never change once they are sampled from."""

    name: str
    path: Path
    rank: int


@dataclass(frozen=True, slots=True)
class Completion:
    """One continuation of a prompt.

    `ids` leaves out the stop token. `log_probability` is the sum over the generated tokens, stop token included, under
    the model's own distribution: before temperature and nucleus. `finished` is False where a limit cut it off.
    """

    ids: tuple[int, ...]
    log_probability: float
    finished: bool


class Sampler(Protocol):
    """A sampling backend. One request at a time; `close` may come from any thread."""

    def start(self, *, lora_rank: int = 0) -> None:
        """Begins starting up for adapters of up to `lora_rank` and returns at once; harmless when already started."""
        ...

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        base: Path,
        adapter: AdapterFolder | None,
        parameters: SamplingParameters,
    ) -> list[list[Completion]]:
        """`parameters.num_samples` completions for every prompt, in the order of the prompts.

        Raises `AdapterRefused`, `TaskTooLong` when a prompt fills the context, and `SamplerFailed`.
        """
        ...

    def close(self) -> None:
        """Frees what the sampler holds; a request that is under way raises `SamplerFailed`."""
        ...
