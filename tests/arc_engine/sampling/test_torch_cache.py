"""The cache that grows in place, against the one of transformers."""

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, Qwen2Config

from arc_engine.sampling.torch_cache import STEP, growing_cache

HEADS, HEAD_DIM = 2, 4
CONFIG = LlamaConfig(num_hidden_layers=2, hidden_size=8, num_attention_heads=HEADS)


@pytest.mark.parametrize("prompt", [1, STEP - 1, STEP, STEP + 1, 3 * STEP])
def test_holds_what_was_appended_for_the_rows_that_stay(prompt: int) -> None:
    generator = torch.Generator().manual_seed(prompt)
    growing, reference = growing_cache(CONFIG), DynamicCache(config=CONFIG)
    rows = 5

    for step in range(STEP + 2):
        states = torch.randn(2, rows, HEADS, 1 if step else prompt, HEAD_DIM, generator=generator)
        for layer in range(CONFIG.num_hidden_layers):
            found = growing.update(*states, layer)
            expected = reference.update(*states, layer)
            assert all(map(torch.equal, found, expected))
        assert growing.get_seq_length() == reference.get_seq_length()
        assert growing.get_mask_sizes(1, 0) == reference.get_mask_sizes(1, 0)
        if step in {3, STEP - 1}:
            rows -= 2
            staying = torch.randperm(rows + 2, generator=generator)[:rows]
            growing.batch_select_indices(staying)
            reference.batch_select_indices(staying)


def test_a_token_is_written_beside_the_others() -> None:
    cache = growing_cache(CONFIG)
    states = torch.zeros(2, 1, HEADS, STEP - 2, HEAD_DIM)
    cache.update(*states, 0)
    places = {cache.update(*states[:, :, :, :1], 0)[0].data_ptr() for _ in range(2)}

    assert len(places) == 1


def test_sliding_windows_stay_what_they_are() -> None:
    config = Qwen2Config(num_hidden_layers=2, use_sliding_window=True, sliding_window=4, max_window_layers=1)

    kept = [type(layer) for layer in DynamicCache(config=config).layers]
    found = [type(layer) for layer in growing_cache(config).layers]

    assert found[1] is kept[1]
    assert found[0] is not kept[0]
