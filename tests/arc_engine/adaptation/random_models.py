"""Tiny models of many architectures, with every weight of theirs random, and sequences to train them on."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from arc_engine.adaptation.examples import Example
from arc_engine.base_models.loading import LoadedBase

SHAPE = {
    "vocab_size": 50,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
GROUPED = {**SHAPE, "num_key_value_heads": 2}

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}


def llama(**options: Any) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**{**GROUPED, **options}))


def qwen2(**options: Any) -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(**{**GROUPED, **options}))


def qwen3(**options: Any) -> PreTrainedModel:
    return Qwen3ForCausalLM(Qwen3Config(**{**GROUPED, "head_dim": 8, **options}))


def mistral(**options: Any) -> PreTrainedModel:
    return MistralForCausalLM(MistralConfig(**{**GROUPED, "sliding_window": None, **options}))


def gpt_neox(**options: Any) -> PreTrainedModel:
    """Not of the Llama family: other norms, one layer for queries, keys and values, other names."""
    return GPTNeoXForCausalLM(GPTNeoXConfig(**{**SHAPE, **options}))


MODELS = {
    "llama": (llama, {}),
    "tied": (llama, {"tie_word_embeddings": True}),
    "every head of its own": (llama, {"num_key_value_heads": 4}),
    "one head for all": (llama, {"num_key_value_heads": 1}),
    "wide heads": (llama, {"head_dim": 10}),
    "biases": (llama, {"attention_bias": True, "mlp_bias": True}),
    "llama3 rope": (llama, {"rope_parameters": LLAMA3_ROPE}),
    "linear rope": (llama, {"rope_parameters": LINEAR_ROPE}),
    "yarn rope": (llama, {"rope_parameters": YARN_ROPE}),
    "one layer": (llama, {"num_hidden_layers": 1}),
    "mistral": (mistral, {}),
    "qwen2": (qwen2, {}),
    "tied qwen2": (qwen2, {"tie_word_embeddings": True}),
    "qwen3": (qwen3, {}),
    "qwen3 with biases": (qwen3, {"attention_bias": True}),
}
"""Of the Llama family: what makes them, and with which options."""


def new_base(make: Any, options: Mapping[str, Any] | None = None, *, dtype: torch.dtype = torch.float64) -> LoadedBase:
    """A base in memory alone, without a tokenizer."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = make(**(options or {}))
        for name, weights in model.named_parameters():
            if weights.ndim == 1:  # biases start at 0 and norms at 1, which would hide a lost one
                torch.nn.init.normal_(weights, mean=float("norm" in name), std=0.2)
    return LoadedBase(
        folder=Path("random-model"),
        model=model.to(dtype).eval().requires_grad_(requires_grad=False),
        tokenizer=None,  # type: ignore[arg-type]
        device="cpu",
        precision="float32",
        max_positions=256,
    )


def sequence(length: int, *, seed: int) -> Example:
    """Random tokens, some of them targets; the first never is, and at least one is."""
    rng = random.Random(seed)
    is_target = [False, *(rng.random() < 0.5 for _ in range(length - 2)), True]
    return Example(tuple(rng.randrange(50) for _ in range(length)), tuple(is_target))
