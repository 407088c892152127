"""The Llama that is pretrained, and its loss."""

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from arc_engine.pretraining.batches import IGNORED, Batch
from arc_engine.pretraining.coordinates import share_coordinates
from arc_engine.pretraining.forward import Forward
from arc_engine.pretraining.recipe import Recipe
from arc_engine.pretraining.tokenizer import VOCABULARY, vocabulary


def build_model(recipe: Recipe) -> LlamaForCausalLM:
    """A new model in float32, its weights drawn from the recipe's seed."""
    shape, tokens = recipe.model, vocabulary(recipe.grid_encoder)
    config = LlamaConfig(
        vocab_size=len(tokens),
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = LlamaForCausalLM(config)
        if len(tokens) > len(VOCABULARY):
            share_coordinates(model)
        return model


def labelled_logits(model: LlamaForCausalLM, batch: Batch, *, forward: Forward) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits `[num_labelled, vocab]` and targets `[num_labelled]`: only labelled positions go through the head."""
    labelled = batch.targets[0] != IGNORED
    return forward.logits(model, forward.hidden_states(model, batch)[labelled]), batch.targets[0][labelled]


def batch_loss(model: LlamaForCausalLM, batch: Batch, *, forward: Forward) -> torch.Tensor:
    """Mean cross-entropy over the labelled tokens, in nats."""
    return functional.cross_entropy(*labelled_logits(model, batch, forward=forward))
