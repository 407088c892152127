"""A Llama's forward pass as pretraining wants it: sequences packed, weights rounded once, few passes over memory.

The model stays one of transformers', whose weights these are; only the way through it is our own. What happens between
two attentions `torch.compile` can make a few kernels of, for any number of tokens.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from shutil import which
from typing import Final, ParamSpec, TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import pad
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, apply_rotary_pos_emb

from arc_engine.errors import CompilerMissing
from arc_engine.pretraining.batches import Batch
from arc_engine.pretraining.packed_attention import packed_attention

P = ParamSpec("P")
R = TypeVar("R")
Watch: TypeAlias = Callable[[int, Tensor, Tensor], None]
_MULTIPLE: Final = 128
"""Of tokens. oneDNN spends milliseconds on getting ready for products of a size that it has not seen lately."""


@dataclass(frozen=True, slots=True)
class Forward:
    """How hidden states are computed. Products are in `dtype`; weights, and the stream between layers, in float32."""

    dtype: torch.dtype = torch.float32
    is_compiled: bool = False

    def __post_init__(self) -> None:
        """Raises `CompilerMissing` where compiling will fail."""
        if self.is_compiled and not which(os.environ.get("CXX", "g++")):
            raise CompilerMissing(
                "compile: true needs a C++ compiler, g++ or what CXX names; install one, or leave compile out"
            )

    def hidden_states(self, model: LlamaForCausalLM, batch: Batch, *, watch: Watch | None = None) -> Tensor:
        """`[tokens, hidden_size]`, of all sequences one after the other, after the last norm.

        `watch` is given every layer's number, queries and keys, `[heads, tokens, head_dim]`.
        """
        before = _compiled(_before_attention) if self.is_compiled else _before_attention
        after = _compiled(_after_attention) if self.is_compiled else _after_attention
        added = -batch.num_tokens % _MULTIPLE
        stream: Tensor = pad(model.model.embed_tokens(batch.ids[0]), (0, 0, 0, added))
        rotation = model.model.rotary_emb(stream, pad(batch.positions, (0, added)))
        for number, layer in enumerate(model.model.layers):
            query, key, value = (
                one[:, : batch.num_tokens] for one in before(layer, stream, rotation, dtype=self.dtype)
            )
            if watch is not None:
                watch(number, query, key)
            attended = packed_attention(query, key, value, lengths=batch.lengths)
            stream = after(layer, stream, pad(attended, (0, 0, 0, added)), dtype=self.dtype)
        hidden: Tensor = model.model.norm(stream[: batch.num_tokens])
        return hidden

    def logits(self, model: LlamaForCausalLM, hidden: Tensor) -> Tensor:
        """`[tokens, vocab]` in float32."""
        return functional.linear(hidden.to(self.dtype), model.lm_head.weight.to(self.dtype)).float()


@cache
def _compiled(part: Callable[P, R]) -> Callable[P, R]:
    return torch.compile(part, dynamic=True)


def _before_attention(
    layer: LlamaDecoderLayer, stream: Tensor, rotation: tuple[Tensor, Tensor], *, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """Queries and keys, rotated, and values: `[heads, tokens, head_dim]`."""
    own = layer.self_attn
    weights = torch.cat((own.q_proj.weight, own.k_proj.weight, own.v_proj.weight)).to(dtype)
    products = functional.linear(layer.input_layernorm(stream).to(dtype), weights)
    query, key, value = products.view(len(stream), 3, -1, own.head_dim).permute(1, 2, 0, 3)
    rotated = apply_rotary_pos_emb(query[None].float(), key[None].float(), *rotation)
    return tuple(one.to(dtype).contiguous() for one in (rotated[0][0], rotated[1][0], value))


def _after_attention(layer: LlamaDecoderLayer, stream: Tensor, attended: Tensor, *, dtype: torch.dtype) -> Tensor:
    """The stream after the layer: what was attended to, and the gated feed-forward network."""
    ffn = layer.mlp
    stream = stream + functional.linear(attended.transpose(0, 1).flatten(1), layer.self_attn.o_proj.weight.to(dtype))
    inputs = layer.post_attention_layernorm(stream).to(dtype)
    gate, up = (functional.linear(inputs, one.weight.to(dtype)) for one in (ffn.gate_proj, ffn.up_proj))
    return stream + functional.linear(functional.silu(gate) * up, ffn.down_proj.weight.to(dtype))
