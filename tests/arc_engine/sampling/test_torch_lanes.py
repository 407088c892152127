import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import JambaConfig, JambaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel

from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.errors import BaseModelError
from arc_engine.sampling.torch_batches import BatchLimits
from arc_engine.sampling.torch_lanes import Lanes, check_layers
from tests.fixtures.models import SHAPE

SLIDING_WINDOW = 32


def with_model(loaded: LoadedBase, model: PreTrainedModel) -> LoadedBase:
    return dataclasses.replace(loaded, model=model.eval())


def tiny_mistral(loaded: LoadedBase) -> LoadedBase:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return with_model(loaded, MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=SLIDING_WINDOW)))


@pytest.fixture(params=["llama", "llama with eager attention", "llama in bfloat16", "qwen2", "mistral"])
def loaded(request: pytest.FixtureRequest, tiny_base: Path, tiny_qwen2: Path) -> LoadedBase:
    base = load_base(tiny_qwen2 if request.param == "qwen2" else tiny_base, device="cpu")
    match request.param:
        case "llama with eager attention":
            base.model.set_attn_implementation("eager")
        case "llama in bfloat16":
            base.model.to(torch.bfloat16)
        case "mistral":
            base = tiny_mistral(base)
    return base


@torch.no_grad()
def plain(loaded: LoadedBase, ids: Sequence[int]) -> torch.Tensor:
    """What follows `ids`, by one forward pass without a cache."""
    return loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float().log_softmax(-1)


def check_step(lanes: Lanes, loaded: LoadedBase, sequences: Sequence[Sequence[int]]) -> None:
    """Evaluates every sequence's last token, the tokens before it being in the lanes."""
    found = lanes.step([ids[-1] for ids in sequences], [len(ids) - 1 for ids in sequences])
    tolerance = 1e-4 if loaded.model.dtype == torch.float32 else 0.1
    for log_probabilities, ids in zip(found, sequences, strict=True):
        torch.testing.assert_close(log_probabilities, plain(loaded, ids), atol=tolerance, rtol=0)


@torch.inference_mode()
def test_lanes_equal_plain_forward_passes_however_they_are_taken_back(loaded: LoadedBase) -> None:
    rng = random.Random(0)
    lanes = Lanes(loaded, num_lanes=4, limits=BatchLimits(max_rows=2))
    sequences = [[rng.randrange(99) for _ in range(length)] for length in (9, 1, 4, 12)]
    lanes.begin([ids[:-1] for ids in sequences], first=0)
    for _ in range(25):
        check_step(lanes, loaded, sequences)
        for ids in sequences:
            del ids[rng.randint(1, len(ids)) :]
            ids.append(rng.randrange(99))
            if rng.random() < 0.1:
                ids[-1:] = []


@torch.inference_mode()
def test_lanes_can_be_moved_left_and_begun_again(loaded: LoadedBase) -> None:
    lanes = Lanes(loaded, num_lanes=3, limits=BatchLimits())
    sequences = [[5, 6, 7, 8, 9, 10, 11], [20, 21, 22], [30, 31, 32, 33, 34]]
    lanes.begin([ids[:-1] for ids in sequences], first=0)
    check_step(lanes, loaded, sequences)

    lanes.move(2, 0, num_tokens=4)  # the first is over
    check_step(lanes, loaded, [[30, 31, 32, 33, 40], [20, 21, 22, 23]])

    new = list(range(40, 60))
    lanes.begin([new[:-1]], first=2)
    check_step(lanes, loaded, [[30, 31, 32, 33, 40, 41], [20, 21], new])


@pytest.mark.parametrize("longest", [SLIDING_WINDOW, SLIDING_WINDOW + 1])
def test_sliding_windows_will_do_as_long_as_they_hold_everything(longest: int, tiny_base: Path) -> None:
    mistral = tiny_mistral(load_base(tiny_base, device="cpu"))
    if longest <= SLIDING_WINDOW:
        check_layers(mistral, longest=longest)
    else:
        with pytest.raises(BaseModelError, match="looks back 32 tokens"):
            check_layers(mistral, longest=longest)


def test_recurrent_layers_are_refused(tiny_base: Path) -> None:
    shape: dict[str, Any] = {**SHAPE, "num_hidden_layers": 2, "attn_layer_period": 2, "attn_layer_offset": 1}
    config = JambaConfig(**shape, num_experts=1, use_mamba_kernels=False)
    jamba = with_model(load_base(tiny_base, device="cpu"), JambaForCausalLM(config))
    with pytest.raises(BaseModelError, match="cannot take back"):
        check_layers(jamba, longest=8)
