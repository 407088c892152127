"""Our way through a Llama is the one of transformers."""

from shutil import which

import pytest
import torch
from transformers import LlamaForCausalLM

from arc_engine.errors import CompilerMissing
from arc_engine.pretraining.batches import Batch, collate
from arc_engine.pretraining.corpus import Corpus
from arc_engine.pretraining.forward import Forward
from arc_engine.pretraining.model import batch_loss, build_model
from arc_engine.pretraining.packed_attention import packed_attention
from arc_engine.pretraining.recipe import ModelShape
from arc_engine.pretraining.tokenizer import build_tokenizer
from tests.arc_engine.pretraining.tiny import tiny_recipe

NEEDS_COMPILER = pytest.mark.skipif(which("g++") is None, reason="needs a C++ compiler, which pip cannot install")
RECIPE = tiny_recipe(model=ModelShape(hidden_size=32, num_layers=2, intermediate_size=64, num_heads=2))
TOLERANCE = {torch.float32: {"rtol": 1e-4, "atol": 1e-6}, torch.bfloat16: {"rtol": 0.1, "atol": 0.02}}


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Two sequences of different lengths."""
    corpus = Corpus(tiny_recipe(), build_tokenizer(model_max_length=512))
    two = zip(corpus.held_out[:2], (2, 3), strict=True)
    return collate([corpus.tokens_of(task.pairs[:num_pairs]) for task, num_pairs in two])


@pytest.mark.parametrize("is_compiled", [False, pytest.param(True, marks=NEEDS_COMPILER)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradients_are_those_of_each_sequence_alone(
    batch: Batch, dtype: torch.dtype, *, is_compiled: bool
) -> None:
    model = build_model(RECIPE)
    plain = LlamaForCausalLM(model.config)
    plain.load_state_dict(model.state_dict())
    parts = zip(batch.ids[0].split(batch.lengths), batch.targets[0].split(batch.lengths), strict=True)
    logits, targets = zip(*((plain(ids[None]).logits[0], targets) for ids, targets in parts), strict=True)
    expected = torch.nn.functional.cross_entropy(torch.cat(logits), torch.cat(targets))
    expected.backward()
    loss = batch_loss(model, batch, forward=Forward(dtype=dtype, is_compiled=is_compiled))
    loss.backward()
    torch.testing.assert_close(loss, expected, **TOLERANCE[dtype])
    for name, parameter in model.named_parameters():
        gradient = plain.get_parameter(name).grad
        assert gradient is not None
        scale = gradient.abs().max()
        torch.testing.assert_close(parameter.grad / scale, gradient / scale, **TOLERANCE[dtype])


@pytest.mark.parametrize("lengths", [(5,), (32, 1, 70), (1100,)])
def test_attention_that_keeps_its_probabilities_is_attention(lengths: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    exact = [torch.randn(2, sum(lengths), 16, requires_grad=True) for _ in range(3)]
    rounded = [one.detach().bfloat16().requires_grad_() for one in exact]
    weight = torch.randn(2, sum(lengths), 16)
    for tensors in (exact, rounded):
        (packed_attention(*tensors, lengths=lengths) * weight).sum().backward()
    for one, of_rounded in zip(exact, rounded, strict=True):
        assert one.grad is not None
        assert of_rounded.grad is not None
        torch.testing.assert_close(of_rounded.grad.float(), one.grad, rtol=0.05, atol=0.05)


def test_compiling_without_a_compiler_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(CompilerMissing, match="g\\+\\+"):
        Forward(is_compiled=True)
