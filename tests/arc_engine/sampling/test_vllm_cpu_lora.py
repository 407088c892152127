import inspect

import pytest
import torch

pytest.importorskip("vllm")

from vllm.lora.ops.torch_ops import lora_ops
from vllm.lora.punica_wrapper import punica_cpu

from arc_engine.sampling import vllm_cpu_lora

NUM_SLOTS = 3
SEQ_LENS = torch.tensor([3, 1, 4])
STARTS = torch.tensor([0, 3, 4])
COUNTS = (3, 4, 8)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def both(name: str, inputs: torch.Tensor, weights: torch.Tensor, output: torch.Tensor, *rest: object) -> None:
    ours, theirs = output.clone(), output.clone()
    getattr(vllm_cpu_lora, name)(inputs, weights, ours, *rest)
    getattr(lora_ops, name)(inputs, weights, theirs, *rest)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("add_inputs", [True, False])
@pytest.mark.parametrize("slots", [(0, 0, 0), (2, 2, 2), (0, 1, 2), (2, 0, 2)], ids=str)
def test_the_operations_give_what_vllm_s_give(slots: tuple[int, ...], add_inputs: bool) -> None:
    x, a, b = noise(8, 6), noise(NUM_SLOTS, 1, 4, 6), noise(NUM_SLOTS, 1, 5, 4)
    sequences = torch.tensor(slots)
    tokens = torch.repeat_interleave(sequences, SEQ_LENS)
    both("bgmv_shrink", x, a, noise(8, 4), tokens, 0.5)
    both("bgmv_expand", noise(8, 4), b, noise(8, 7), tokens, add_inputs)
    both("bgmv_expand_slice", noise(8, 4), b, noise(8, 9), tokens, 2, 5, add_inputs)
    runs = STARTS, SEQ_LENS, sequences, *COUNTS
    both("sgmv_shrink", x, a, noise(8, 4), *runs, 0.5)
    both("sgmv_expand", noise(8, 4), b, noise(8, 5), *runs, add_inputs)
    both("sgmv_expand_slice", noise(8, 4), b, noise(8, 9), *runs, 2, 5, add_inputs)


def test_one_run_of_tokens_has_one_slot() -> None:
    x, a = noise(8, 6), noise(NUM_SLOTS, 1, 4, 6)
    one = torch.tensor([0]), torch.tensor([8]), torch.tensor([1]), 1, 8, 8
    both("sgmv_shrink", x, a, noise(8, 4), *one, 0.5)


@pytest.mark.parametrize("slots", [(-1, 0, -1), (-1, 1, 2), (-1, -1, -1)], ids=str)
def test_tokens_without_adapter_get_nothing(slots: tuple[int, ...]) -> None:
    inputs, b, output = noise(3, 2), noise(NUM_SLOTS, 1, 4, 2), noise(3, 4)
    for name, indices in (
        ("bgmv_expand", [torch.tensor(slots)]),
        ("sgmv_expand", [torch.arange(3), torch.ones(3, dtype=torch.long), torch.tensor(slots), 3, 1, 3]),
    ):
        found = output.clone()
        getattr(vllm_cpu_lora, name)(inputs, b, found, *indices, add_inputs=True)
        for token, slot in enumerate(slots):
            expected = output[token] + (inputs[token] @ b[slot, 0].T if slot >= 0 else 0)
            torch.testing.assert_close(found[token], expected)


def test_adapters_in_half_precision_are_multiplied_in_that_of_the_output() -> None:
    inputs, b, output = noise(3, 2), noise(NUM_SLOTS, 1, 4, 2), torch.zeros(3, 4)
    vllm_cpu_lora.bgmv_expand(inputs, b.bfloat16(), output, torch.tensor([0, 2, 0]))
    assert output.dtype == torch.float32
    torch.testing.assert_close(output[1], inputs[1] @ b[2, 0].bfloat16().float().T)


def test_vllm_has_these_operations_in_these_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for operation in vllm_cpu_lora.OPERATIONS:
        theirs = getattr(lora_ops, operation.__name__)
        assert len(inspect.signature(theirs).parameters) == len(inspect.signature(operation).parameters)
        monkeypatch.setattr(punica_cpu, operation.__name__, theirs)
    assert vllm_cpu_lora.install()
    assert all(getattr(punica_cpu, o.__name__) is o for o in vllm_cpu_lora.OPERATIONS)


def test_another_vllm_keeps_its_own_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(punica_cpu, "bgmv_shrink")
    before = punica_cpu.sgmv_shrink
    assert not vllm_cpu_lora.install()
    assert punica_cpu.sgmv_shrink is before
