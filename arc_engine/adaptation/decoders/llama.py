"""Models of the Llama family, with no more work than the gradients of adapters take.

Against transformers' own code: layers that read the same input share their passes over it; norms and rotary embeddings
keep and pass over less; residual streams are added within matrix products; and the last layer computes labelled
positions only from its attention on. Weights are used where they lie, none is copied.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from arc_engine.adaptation.decoders.fused import rms_norm, rotated
from arc_engine.adaptation.decoders.protocol import Adapters
from arc_engine.adaptation.packed_batch import PackedBatch
from arc_engine.adaptation.sites import Site, site_of
from arc_engine.adaptation.slot_linear import slot_linear
from arc_engine.base_models.loading import LoadedBase

FAMILY: Final = ("llama", "mistral", "qwen2", "qwen3")
"""`model_type` of the architectures whose layers are those of Llama, but for biases and norms that are looked for."""

SITES: Final = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
"""Per layer of the model, the linear layers that read the same input, in the order of the computation."""


def is_supported(base: LoadedBase) -> bool:
    """Whether this module knows all that the model does: in float32, float16 or bfloat16, in plain linear layers."""
    config = base.model.config
    if config.model_type not in FAMILY or getattr(config, "hidden_act", None) != "silu":
        return False
    every_layer = ["sliding_attention"]  # as in Mistral, whose configuration does not say it layer by layer
    if getattr(config, "sliding_window", None) and "sliding_attention" in getattr(config, "layer_types", every_layer):
        return False
    layers = base.model.get_decoder().layers
    return all(type(layer.get_submodule(name)) is nn.Linear for layer in layers for site in SITES for name in site)


@dataclass(frozen=True, slots=True, eq=False)
class _Site:
    """The base's part of a site."""

    index: int
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Pass:
    """What all layers of one forward pass have in common."""

    batch: PackedBatch
    adapters: Adapters
    cos: Tensor
    """`[length, heads, head_dim / 2]`, the same for every head: an inner loop over one head's half would be short."""
    sin: Tensor

    def linear(
        self, site: _Site, inputs: Tensor, *, added: Tensor | None = None, labelled_only: bool = False
    ) -> tuple[Tensor, ...]:
        """What the site's layers make of `inputs`, `[slots, tokens, in_features]`; `added` is a residual stream."""
        matrices, dropout = self.adapters.matrices[site.index], self.adapters.dropout
        if matrices is None:
            found = tuple(map(partial(functional.linear, inputs), site.weights, site.biases))
            return found if added is None else (found[0] + added,)
        kept = None if dropout is None else dropout.kept(site.index, inputs, labelled_only=labelled_only)
        found = slot_linear(
            inputs,
            site.weights,
            matrices,
            scales=self.adapters.scales,
            kept=kept,
            added_to=site.biases if added is None else (added,),
        )
        return found if added is None or site.biases[0] is None else (found[0] + site.biases[0],)

    def labelled(self, stream: Tensor) -> Tensor:
        """`[slots, tokens, width]` at the labelled positions."""
        offsets = torch.arange(self.batch.num_slots, device=stream.device).unsqueeze(1) * stream.shape[1]
        chosen = stream.flatten(0, 1).index_select(0, (self.batch.labelled + offsets).flatten())
        return chosen.view(*self.batch.labelled.shape, -1)


class LlamaDecoder:
    """See the module."""

    def __init__(self, base: LoadedBase, *, checkpointing: bool = False) -> None:
        self._model = base.model.get_decoder()
        self._checkpointing = checkpointing
        layers = {name: layer for name, layer in base.model.named_modules() if isinstance(layer, nn.Linear)}
        (prefix,) = (name for name, module in base.model.named_modules() if module is self._model)
        names = [
            [f"{prefix}.layers.{number}.{name}" for name in site]
            for number in range(len(self._model.layers))
            for site in SITES
        ]
        self.sites: tuple[Site, ...] = tuple(site_of(layers, site) for site in names)
        found = [_site(index, site, layers) for index, site in enumerate(self.sites)]
        self._layers = [
            partial(_layer, layer, found[start : start + len(SITES)])
            for layer, start in zip(self._model.layers, range(0, len(found), len(SITES)), strict=True)
        ]

    @contextmanager
    def hidden(self, batch: PackedBatch, adapters: Adapters) -> Iterator[Tensor]:
        stream = self._model.embed_tokens(batch.input_ids)  # [slots * rows, length, width]
        cos, sin = self._rotary(stream)
        this = _Pass(batch, adapters, cos, sin)
        stream = stream.unflatten(0, (batch.num_slots, batch.num_rows)).flatten(1, 2)
        for number, layer in enumerate(self._layers):
            is_last = number == len(self._layers) - 1
            if self._checkpointing:
                stream = checkpoint(layer, stream, this, is_last=is_last, use_reentrant=False)
            else:
                stream = layer(stream, this, is_last=is_last)
        yield _normed(stream, self._model.norm)

    def _rotary(self, stream: Tensor) -> tuple[Tensor, Tensor]:
        positions = torch.arange(stream.shape[1], device=stream.device).unsqueeze(0)
        # transformers gives every frequency twice, for the two halves of a head.
        cos, sin = (
            found[0, :, None, : found.shape[-1] // 2].repeat(1, self._model.config.num_attention_heads, 1)
            for found in self._model.rotary_emb(stream, positions)
        )
        return cos, sin


def _layer(layer: Any, sites: list[_Site], stream: Tensor, this: _Pass, *, is_last: bool) -> Tensor:  # noqa: ANN401
    attention_site, output_site, gates_site, down_site = sites
    attended = _attended(layer.self_attn, attention_site, _normed(stream, layer.input_layernorm), this)
    if is_last:
        stream, attended = this.labelled(stream), this.labelled(attended)
    (stream,) = this.linear(output_site, attended, added=stream, labelled_only=is_last)
    gate, up = this.linear(gates_site, _normed(stream, layer.post_attention_layernorm), labelled_only=is_last)
    (stream,) = this.linear(down_site, functional.silu(gate) * up, added=stream, labelled_only=is_last)
    return stream


def _attended(attention: Any, site: _Site, inputs: Tensor, this: _Pass) -> Tensor:  # noqa: ANN401 - untyped
    """What the heads of a layer read, side by side: `[slots, tokens, heads * head_dim]`."""
    queries, keys, values = (
        found.reshape(-1, this.batch.length, found.shape[-1] // attention.head_dim, attention.head_dim)
        for found in this.linear(site, inputs)
    )
    if hasattr(attention, "q_norm"):
        queries, keys = _normed(queries, attention.q_norm), _normed(keys, attention.k_norm)
    queries, keys = (rotated(one, this.cos, this.sin).transpose(1, 2) for one in (queries, keys))
    found = functional.scaled_dot_product_attention(
        queries,
        keys,
        values.transpose(1, 2),
        is_causal=True,
        scale=attention.scaling,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )
    return found.transpose(1, 2).reshape(*inputs.shape[:2], -1)


def _normed(stream: Tensor, norm: Any) -> Tensor:  # noqa: ANN401 - transformers is untyped
    return rms_norm(stream, norm.weight, norm.variance_epsilon)


def _site(index: int, site: Site, layers: Mapping[str, nn.Linear]) -> _Site:
    linear = [layers[name] for name in site.layers]
    return _Site(index, tuple(layer.weight for layer in linear), tuple(layer.bias for layer in linear))
