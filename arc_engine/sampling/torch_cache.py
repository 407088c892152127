"""A key-value cache that grows in place: a new token is written after the others, which need not be copied for it."""

from typing import Any, Final

from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

STEP: Final = 128
"""Tokens that there is new room for when the room is used up."""


class _GrowingLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is untyped
    """The keys and values of one layer: `[rows, heads, capacity, head_dim]`, of which `_length` tokens are in use."""

    def __init__(self) -> None:
        super().__init__()
        self._length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = (states[:, :, :0] for states in (key_states, value_states))
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Appends `[rows, heads, new, head_dim]`; returns all there are."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin, self._length = self._length, self._length + key_states.shape[2]
        missing = self._length - self.keys.shape[2]
        if missing > 0:
            more = -(-missing // STEP) * STEP
            self.keys, self.values = (pad(states, (0, 0, 0, more)) for states in (self.keys, self.values))
        self.keys[:, :, begin : self._length] = key_states
        self.values[:, :, begin : self._length] = value_states
        return self.keys[:, :, : self._length], self.values[:, :, : self._length]

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keeps these rows."""
        self.keys, self.values = (states[indices] for states in (self.keys, self.values))

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self._length + query_length, 0

    def get_seq_length(self) -> int:
        return self._length

    def get_max_length(self) -> int:
        return -1


def growing_cache(config: Any) -> DynamicCache:  # noqa: ANN401 - transformers is untyped
    """A `DynamicCache` for such a model, whose layers that look back on everything grow in place."""
    cache = DynamicCache(config=config)
    # The exact type: other kinds of layers are built on it.
    cache.layers = [_GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
