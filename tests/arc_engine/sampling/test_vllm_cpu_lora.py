import inspect

import pytest
import torch

pytest.importorskip("vllm")

from vllm.lora.ops.torch_ops import lora_ops
from vllm.lora.punica_wrapper import punica_cpu

from arc_engine.sampling import vllm_cpu_lora

SEQ_LENS = torch.tensor([3, 1, 4])
SEQUENCES = (torch.tensor([0, 3, 4]), SEQ_LENS)
COUNTS = (3, 4, 8)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def both(name: str, inputs: torch.Tensor, weights: torch.Tensor, output: torch.Tensor, *rest: object) -> None:
    ours, theirs = output.clone(), output.clone()
    getattr(vllm_cpu_lora, name)(inputs, weights, ours, *rest)
    getattr(lora_ops, name)(inputs, weights, theirs, *rest)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("add_inputs", [True, False])
def test_the_operations_give_what_vllm_s_give(add_inputs: bool) -> None:
    x, a, b = noise(8, 6), noise(1, 1, 4, 6), noise(1, 1, 5, 4)
    tokens, sequences = torch.zeros(8, dtype=torch.long), torch.zeros(3, dtype=torch.long)
    both("bgmv_shrink", x, a, noise(8, 4), tokens, 0.5)
    both("bgmv_expand", noise(8, 4), b, noise(8, 7), tokens, add_inputs)
    both("bgmv_expand_slice", noise(8, 4), b, noise(8, 9), tokens, 2, 5, add_inputs)
    both("sgmv_shrink", x, a, noise(8, 4), *SEQUENCES, sequences, *COUNTS, 0.5)
    both("sgmv_expand", noise(8, 4), b, noise(8, 5), *SEQUENCES, sequences, *COUNTS, add_inputs)
    both("sgmv_expand_slice", noise(8, 4), b, noise(8, 9), *SEQUENCES, sequences, *COUNTS, 2, 5, add_inputs)


def test_tokens_without_adapter_get_nothing() -> None:
    output = noise(3, 4)
    expected = output.clone()
    vllm_cpu_lora.bgmv_expand(noise(3, 2), noise(1, 1, 4, 2), output, torch.tensor([-1, 0, -1]))
    assert torch.equal(output[[0, 2]], expected[[0, 2]])
    assert not torch.equal(output[1], expected[1])


def test_vllm_has_these_operations_in_these_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for operation in vllm_cpu_lora.OPERATIONS:
        theirs = getattr(lora_ops, operation.__name__)
        assert len(inspect.signature(theirs).parameters) == len(inspect.signature(operation).parameters)
        monkeypatch.setattr(punica_cpu, operation.__name__, theirs)
    vllm_cpu_lora.install()
    assert all(getattr(punica_cpu, o.__name__) is o for o in vllm_cpu_lora.OPERATIONS)
