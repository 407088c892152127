"""The Llama that is pretrained, and its loss."""

from pathlib import Path
from typing import Final

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from arc_engine.base_models.sources import resolve
from arc_engine.errors import BaseModelError
from arc_engine.pretraining.batches import IGNORED, Batch
from arc_engine.pretraining.coordinates import begin_in_waves, share_coordinates
from arc_engine.pretraining.forward import Forward, Watch
from arc_engine.pretraining.recipe import Beginning, Recipe
from arc_engine.pretraining.tokenizer import VOCABULARY, has_coordinates, vocabulary

_SHAPE: Final = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rope_parameters",
    "tie_word_embeddings",
)
"""Of a configuration, what must be the same for weights to be gone on with."""


def build_model(recipe: Recipe) -> LlamaForCausalLM:
    """A model in float32: new, its weights drawn from the recipe's seed, or what the recipe goes on with.

    Raises `BaseModelError` if that is no model, or one of another shape or encoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = _new(recipe) if recipe.start_from is None else _going_on(recipe, resolve(recipe.start_from))
    if has_coordinates(recipe.grid_encoder):
        share_coordinates(model)
    return model


def _new(recipe: Recipe) -> LlamaForCausalLM:
    model = LlamaForCausalLM(_config(recipe))
    if has_coordinates(recipe.grid_encoder):
        begin_in_waves(model)
    _begin(model, recipe.beginning)
    return model


@torch.no_grad()
def _begin(model: LlamaForCausalLM, beginning: Beginning) -> None:
    for layer in model.model.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            projection.weight.mul_(beginning.query_key_gain)
        if beginning.zero_outputs:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()


def _going_on(recipe: Recipe, folder: Path) -> LlamaForCausalLM:
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    found, wanted = model.config.to_dict(), _config(recipe).to_dict()
    others = [name for name in _SHAPE if found.get(name) != wanted[name]]
    if others:
        raise BaseModelError(f"start_from: {recipe.start_from} has another {', '.join(others)} than the recipe's model")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    if tokenizer.get_vocab() != vocabulary(recipe.grid_encoder):
        raise BaseModelError(
            f"start_from: {recipe.start_from} has other tokens than {recipe.grid_encoder} is written in"
        )
    return model


def _config(recipe: Recipe) -> LlamaConfig:
    shape = recipe.model
    return LlamaConfig(
        vocab_size=len(vocabulary(recipe.grid_encoder)),
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        intermediate_size=shape.intermediate_size,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_heads,
        head_dim=shape.hidden_size // shape.num_heads,
        max_position_embeddings=shape.max_position_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_base},
        tie_word_embeddings=False,
        bos_token_id=VOCABULARY["<bos>"],
        eos_token_id=VOCABULARY["<eos>"],
        pad_token_id=VOCABULARY["<pad>"],
    )


def labelled_logits(
    model: LlamaForCausalLM, batch: Batch, *, forward: Forward, watch: Watch | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits `[num_labelled, vocab]` and targets `[num_labelled]`: only labelled positions go through the head."""
    labelled = batch.targets[0] != IGNORED
    hidden = forward.hidden_states(model, batch, watch=watch)
    return forward.logits(model, hidden[labelled]), batch.targets[0][labelled]


def batch_loss(model: LlamaForCausalLM, batch: Batch, *, forward: Forward, watch: Watch | None = None) -> torch.Tensor:
    """Mean cross-entropy over the labelled tokens, in nats. `watch` is `Forward.hidden_states`'."""
    return functional.cross_entropy(*labelled_logits(model, batch, forward=forward, watch=watch))
