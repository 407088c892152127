"""Our own layers and their gradients by hand: against the formula, and against finite differences."""

import pytest
import torch

from arc_engine.adaptation.decoders.fused import rms_norm, rotated
from arc_engine.adaptation.sites import SiteMatrices
from arc_engine.adaptation.slot_linear import slot_linear

SLOTS, TOKENS, IN, OUT, RANK = 3, 4, 5, (6, 2), 2


def numbers(*shape, seed=0, needs_gradient=False):
    rng = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_(needs_gradient)


@pytest.fixture
def parts():
    """Inputs, A, B per layer."""
    return (
        numbers(SLOTS, TOKENS, IN, needs_gradient=True),
        numbers(SLOTS, len(OUT) * RANK, IN, needs_gradient=True),
        *(numbers(SLOTS, out, RANK, seed=out, needs_gradient=True) for out in OUT),
    )


SCALES = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64).view(-1, 1, 1)
WEIGHTS = tuple(numbers(out, IN, seed=1) for out in OUT)
KEPT = (numbers(SLOTS, TOKENS, IN, seed=2) > 0) / 0.5
ADDED = {
    "nothing": lambda: (),
    "biases": lambda: tuple(numbers(out, seed=3) for out in OUT),
    "one bias": lambda: (None, numbers(OUT[1], seed=3)),
    "streams": lambda: tuple(numbers(SLOTS, TOKENS, out, seed=3, needs_gradient=True) for out in OUT),
}


@pytest.mark.parametrize(
    ("weights", "added"),
    [*((WEIGHTS, added) for added in ADDED), ((), "nothing"), ((), "streams")],  # biases are the base's
)
@pytest.mark.parametrize("kept", [None, KEPT], ids=["whole", "dropout"])
def test_a_layer_is_what_the_formula_says_and_its_gradients_are_right(parts, weights, kept, added):
    added_to = ADDED[added]()

    def layer(inputs, lora_a, *lora_b):
        return slot_linear(inputs, weights, SiteMatrices(lora_a, lora_b), scales=SCALES, kept=kept, added_to=added_to)

    inputs, lora_a, *lora_b = parts
    for index, found in enumerate(layer(*parts)):
        for slot in range(SLOTS):
            seen = inputs[slot] if kept is None else inputs[slot] * kept[slot]
            rows = slice(index * RANK, (index + 1) * RANK)
            expected = SCALES[slot] * (seen @ lora_a[slot, rows].mT @ lora_b[index][slot].mT)
            if weights:
                expected = expected + inputs[slot] @ weights[index].mT
            if added_to and added_to[index] is not None:
                one = added_to[index]
                expected = expected + (one if one.ndim == 1 else one[slot])
            torch.testing.assert_close(found[slot], expected)
    streams = [one for one in added_to if one is not None and one.requires_grad]
    assert torch.autograd.gradcheck(lambda *all_parts: layer(*all_parts[: len(parts)]), (*parts, *streams))


def test_an_input_without_gradients_and_frozen_weights_get_none(parts):
    _, lora_a, *lora_b = parts
    inputs, (first, _) = numbers(SLOTS, TOKENS, IN), WEIGHTS
    found = slot_linear(inputs, (first, WEIGHTS[1]), SiteMatrices(lora_a, tuple(lora_b)), scales=SCALES)
    torch.cat(found, dim=-1).sum().backward()
    assert inputs.grad is None
    assert first.grad is None
    assert all(part.grad is not None for part in (lora_a, *lora_b))


def test_one_layer_alone_is_a_site_too():
    inputs, lora_a, lora_b = (numbers(*shape, needs_gradient=True) for shape in ((2, 3, 4), (2, 1, 4), (2, 5, 1)))
    (found,) = slot_linear(inputs, (), SiteMatrices(lora_a, (lora_b,)), scales=SCALES[:2])
    torch.testing.assert_close(found, SCALES[:2] * (inputs @ lora_a.mT @ lora_b.mT))


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 3, 4, 6)])
def test_norms_are_those_of_torch_and_their_gradients_right(shape):
    stream, weight = numbers(*shape, needs_gradient=True), numbers(shape[-1], seed=9)
    expected = torch.nn.functional.rms_norm(stream, shape[-1:], weight, eps=1e-5)
    torch.testing.assert_close(rms_norm(stream, weight, 1e-5), expected)
    assert torch.autograd.gradcheck(lambda one: rms_norm(one, weight, 1e-5), (stream,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norms_of_small_numbers_are_computed_in_float32(dtype):
    stream = (300 * numbers(4, 64)).to(dtype)  # whose squares are beyond float16
    found = rms_norm(stream, torch.ones(64, dtype=dtype), 1e-6)
    assert found.dtype == dtype
    torch.testing.assert_close(found.norm(dim=-1).double(), torch.full((4,), 8.0).double(), rtol=0.01, atol=0)


@pytest.mark.parametrize("heads", [1, 3])
def test_rotations_turn_pairs_of_halves_and_their_gradients_right(heads):
    angles = numbers(5, 1, 4).expand(5, 3, 4)
    cos, sin, given = angles.cos().contiguous(), angles.sin().contiguous(), numbers(2, 5, heads, 8, needs_gradient=True)
    found = rotated(given, cos, sin)
    turned = torch.complex(given[..., :4], given[..., 4:]) * torch.complex(cos, sin)[:, :heads]
    torch.testing.assert_close(found, torch.cat([turned.real, turned.imag], dim=-1))
    assert torch.autograd.gradcheck(lambda one: rotated(one, cos, sin), (given,))
