"""A key-value cache of lanes: sequences side by side, each of its own length, that can be taken back to a shorter one.

A lane is a row of preallocated keys and values. Truncating it is writing at an earlier position next time: what lies
after is masked, and overwritten as the lane grows again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from arc_engine.base_models.loading import LoadedBase
from arc_engine.errors import BaseModelError
from arc_engine.sampling.torch_batches import BatchLimits, right_padded

GROWTH: Final = 1.25


@dataclass(slots=True)
class _Present:
    """Where the lanes that take part in a step write: what the layers of the cache share."""

    num_lanes: int
    positions: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """`[taking part]`: the first so many lanes take part."""
    width: int = 0
    """One past the last position."""


class _LaneLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is untyped
    """The keys and values of one layer: `[lanes, heads, capacity, head_dim]`, the capacity growing as needed."""

    def __init__(self, present: _Present) -> None:
        super().__init__()
        self._present = present

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = (
            states.new_zeros((self._present.num_lanes, states.shape[1], 0, states.shape[3]))
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *_args: object,
        **_kwargs: object,
    ) -> tuple[Tensor, Tensor]:
        """Writes a token per lane, `[taking part, heads, 1, head_dim]`; all that these lanes hold."""
        self._reserve(self._present.width, key_states, value_states)
        num_taking_part = len(self._present.positions)
        lanes = torch.arange(num_taking_part, device=key_states.device)
        self.keys[lanes, :, self._present.positions] = key_states[:, :, 0]
        self.values[lanes, :, self._present.positions] = value_states[:, :, 0]
        width = self._present.width
        return self.keys[:num_taking_part, :, :width], self.values[:num_taking_part, :, :width]

    def put(self, lanes: Tensor, key_states: Tensor, value_states: Tensor) -> None:
        """Starts these lanes with keys and values, `[these lanes, heads, tokens, head_dim]`."""
        width = key_states.shape[2]
        self._reserve(width, key_states, value_states)
        self.keys[lanes, :, :width] = key_states
        self.values[lanes, :, :width] = value_states

    def move(self, source: int, target: int, *, num_tokens: int) -> None:
        """Copies the first tokens of one lane over those of another."""
        if self.is_initialized:
            self.keys[target, :, :num_tokens] = self.keys[source, :, :num_tokens]
            self.values[target, :, :num_tokens] = self.values[source, :, :num_tokens]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002 - the mask that we pass says it
        return self._present.width, 0

    def get_seq_length(self) -> int:
        return self._present.width

    def get_max_length(self) -> int:
        return -1

    def _reserve(self, width: int, key_states: Tensor, value_states: Tensor) -> None:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        capacity = self.keys.shape[2]
        if width > capacity:
            more = max(width, int(capacity * GROWTH)) - capacity
            # Zeros, because a masked value counts for nothing only where it is finite.
            self.keys, self.values = (
                torch.nn.functional.pad(states, (0, 0, 0, more)) for states in (self.keys, self.values)
            )


class Lanes:
    """Evaluates one token of every lane at a time. Lanes in use are the first ones."""

    def __init__(self, loaded: LoadedBase, *, num_lanes: int, limits: BatchLimits) -> None:
        self.num_lanes = num_lanes
        self._loaded = loaded
        self._limits = limits
        self._present = _Present(num_lanes)
        num_layers = len(DynamicCache(config=loaded.model.config).layers)
        self._layers = [_LaneLayer(self._present) for _ in range(num_layers)]
        self._cache = Cache(layers=self._layers)

    def begin(self, sequences: Sequence[Sequence[int]], *, first: int) -> None:
        """Fills lanes `first`, `first + 1`, ... with the keys and values of token ids, whatever they held before."""
        numbered = [(lane, ids) for lane, ids in enumerate(sequences, start=first) if ids]
        for batch in self._limits.batches(numbered, num_tokens=lambda numbered: len(numbered[1])):
            filled = DynamicCache()
            self._loaded.model.get_decoder()(
                input_ids=right_padded([ids for _, ids in batch], device=self._loaded.device),
                past_key_values=filled,
                use_cache=True,
            )
            lanes = torch.tensor([lane for lane, _ in batch], device=self._loaded.device)
            for layer, new in zip(self._layers, filled.layers, strict=True):
                layer.put(lanes, new.keys, new.values)

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """What follows `tokens[i]` at `positions[i]` of lane i, after what that lane holds before it.

        Log-probabilities over all tokens, float32, `[len(tokens), vocabulary]`.
        """
        present, device = self._present, self._loaded.device
        ids, present.positions = torch.tensor([list(tokens), list(positions)], device=device)
        present.width = max(positions) + 1
        hidden = torch.arange(present.width, device=device) > present.positions[:, None]  # [lanes, width]
        # To be added to the attention scores: booleans would be added as 0 and 1 by eager attention.
        mask = torch.zeros(hidden.shape, dtype=self._loaded.model.dtype, device=device)
        mask.masked_fill_(hidden, torch.finfo(mask.dtype).min)
        output = self._loaded.model(
            input_ids=ids[:, None],
            attention_mask=mask[:, None, None],  # [lanes, heads, queries, width]
            position_ids=present.positions[:, None],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        log_probabilities: Tensor = output.logits[:, -1].float().log_softmax(-1)
        return log_probabilities

    def move(self, source: int, target: int, *, num_tokens: int) -> None:
        """Lane `target` becomes what the first tokens of lane `source` are."""
        for layer in self._layers:
            layer.move(source, target, num_tokens=num_tokens)


def check_layers(loaded: LoadedBase, *, longest: int) -> None:
    """Raises `BaseModelError` unless every layer can look back on all of a sequence of `longest` tokens, and only that.

    Sliding windows do as long as the sequence fits into them; recurrent layers cannot be taken back.
    """
    for layer in DynamicCache(config=loaded.model.config).layers:
        # The exact types: other kinds of layers are built on these two.
        if type(layer) is DynamicSlidingWindowLayer and longest > layer.sliding_window:
            raise BaseModelError(
                f"{loaded.folder.name} looks back {layer.sliding_window} tokens, a depth-first search of {longest} "
                "tokens would need all of them; use method sample or greedy"
            )
        if type(layer) not in {DynamicLayer, DynamicSlidingWindowLayer}:
            raise BaseModelError(
                f"{loaded.folder.name} has layers ({type(layer).__name__}) that a depth-first search cannot take back; "
                "use method sample or greedy"
            )
