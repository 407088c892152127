"""How much is computed at once, and token ids of unequal length side by side."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from arc_engine.errors import TaskTooLong
from arc_engine.sampling.protocol import Prompt, SamplingParameters

Row = TypeVar("Row")

PADDING = 0
"""Any token would do: what is padded is masked, or comes after all that looks back."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """At most `max_rows` sequences at once, and `max_tokens` tokens of keys and values; one sequence at least.

    A token takes 2 x layers x key-value heads x head dimension numbers: 2**17 tokens are 1.6 GB for Qwen2-0.5B and
    17 GB for Llama-3-8B, in bfloat16.
    """

    max_rows: int = 32
    max_tokens: int = 2**17

    def num_rows(self, num_tokens: int) -> int:
        """How many sequences of up to `num_tokens` tokens there may be at once."""
        return max(1, min(self.max_rows, self.max_tokens // num_tokens))

    def batches(self, rows: Iterable[Row], *, num_tokens: Callable[[Row], int]) -> Iterator[list[Row]]:
        """The rows, the shortest first, so that those of a batch need little padding."""
        batch: list[Row] = []
        for row in sorted(rows, key=num_tokens):
            if len(batch) >= self.num_rows(num_tokens(row)):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch


def num_new_tokens(prompt: Prompt, parameters: SamplingParameters, *, max_positions: int) -> int:
    """How many tokens a completion may have; raises `TaskTooLong` if the prompt leaves the context no room for any."""
    room = max_positions - len(prompt.ids)
    if room < 1:
        raise TaskTooLong(f"a prompt has {len(prompt.ids)} tokens, the model's context {max_positions}")
    return min(parameters.max_new_tokens, room)


def left_padded(rows: Sequence[Sequence[int]], *, device: str) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both `[rows, tokens]`; every row ends in the last column."""
    width = max(map(len, rows))
    ids = [[PADDING] * (width - len(row)) + list(row) for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def right_padded(rows: Sequence[Sequence[int]], *, device: str) -> Tensor:
    """Token ids `[rows, tokens]`; every row begins in the first column, so that a causal model needs no mask."""
    width = max(map(len, rows))
    return torch.tensor([list(row) + [PADDING] * (width - len(row)) for row in rows], device=device)


def allowed_tokens(parameters: SamplingParameters, *, device: str) -> Tensor | None:
    """The tokens that may be taken, ascending, `[allowed]`; None where all may."""
    if parameters.allowed_token_ids is None:
        return None
    return torch.tensor(sorted(set(parameters.allowed_token_ids)), device=device)
