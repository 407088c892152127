import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from arc_engine.adaptation.examples import Example
from arc_engine.base_models.loading import load_base
from benchmarks.adapting_flops import ModelShape, ceilings


@pytest.fixture
def base(tiny_base):
    return load_base(tiny_base, device="cpu")


def example(length, *, num_targets=0):
    return Example((7,) * length, (False,) * (length - num_targets) + (True,) * num_targets)


def test_linear_layers_cost_twice_their_forward_pass(base):
    shape = ModelShape.of(base.model)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        base.model.get_decoder()(input_ids=torch.ones(3, 20, dtype=torch.long))
    products = sum(flops for name, flops in counter.get_flop_counts()["Global"].items() if "mm" in str(name))
    without_attention = ModelShape(shape.layers, attention_width=0, head=shape.head)
    assert without_attention.step_flops([example(21)] * 3, rank=0) == 2 * products


def test_attention_is_causal_and_costs_three_forward_passes(base):
    shape = ModelShape.of(base.model)
    attention = ModelShape((), shape.attention_width, 0)
    width, num_layers, length = 64, 2, 20
    forward = 2 * 2 * width * length**2 / 2 * num_layers
    assert attention.step_flops([example(length + 1)], rank=16) == 3 * forward


def test_adapters_and_targets_are_counted(base):
    shape = ModelShape.of(base.model)
    plain = shape.step_flops([example(21)], rank=0)
    adapters = sum(inputs + outputs for inputs, outputs in shape.layers)
    assert shape.step_flops([example(21)], rank=4) - plain == 6 * 4 * adapters * 20
    head = base.model.config.vocab_size * base.model.config.hidden_size
    assert shape.step_flops([example(21, num_targets=5)], rank=0) - plain == 4 * head * 5


def test_matrix_products_have_a_speed(base, monkeypatch):
    monkeypatch.setattr("benchmarks.adapting_flops.SQUARE", {"cpu": 64})
    monkeypatch.setattr("benchmarks.adapting_flops.MIN_SECONDS", 0.001)
    assert all(speed > 0 for speed in ceilings(base, num_tokens=8).values())
