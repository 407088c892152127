"""The loss: equal to transformers' own, whatever the padding."""

import pytest
import torch

from arc_engine.adaptation.batches import batch_loss, collate
from arc_engine.adaptation.examples import Example
from arc_engine.base_models.loading import load_base

LONG = Example(ids=(1, 20, 21, 22, 23, 24, 2), is_target=(False, False, False, True, False, True, True))
SHORT = Example(ids=(1, 30, 31, 2), is_target=(False, False, True, True))


@pytest.fixture(scope="module", params=["tiny_base", "tiny_qwen2"])
def model(request):
    return load_base(request.getfixturevalue(request.param), device="cpu").model


def test_the_loss_is_that_of_transformers_on_the_labelled_tokens(model):
    batch = collate([LONG, SHORT], device="cpu")
    ids = torch.tensor([LONG.ids, (*SHORT.ids, 0, 0, 0)])
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    is_target = torch.tensor([LONG.is_target, (*SHORT.is_target, False, False, False)])
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(~is_target, -100)).loss
        loss = batch_loss(model, batch)
    torch.testing.assert_close(loss, expected)
    assert loss.dtype == torch.float32
    assert batch.num_tokens == 11


def test_every_labelled_token_weighs_the_same_in_whatever_batch(model):
    with torch.no_grad():
        apart = [batch_loss(model, collate([example], device="cpu")).item() for example in (LONG, SHORT)]
        together = batch_loss(model, collate([SHORT, LONG], device="cpu")).item()
    assert together == pytest.approx((3 * apart[0] + 2 * apart[1]) / 5, abs=1e-5)
