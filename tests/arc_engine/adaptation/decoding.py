"""Losses and gradients of one forward pass: by a decoder of ours, and by transformers with PEFT's own layers."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional

from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.decoders import Adapters, Decoder
from arc_engine.adaptation.initialisation import LoraMatrices
from arc_engine.adaptation.lora import adapter_form
from arc_engine.adaptation.packed_batch import Portion, collate, portions_of
from arc_engine.adaptation.run import PEFT_PREFIX
from arc_engine.adaptation.sites import Layout
from arc_engine.adaptation.slots import Slots, SlotStart
from arc_engine.base_models.loading import LoadedBase
from tests.arc_engine.adaptation.lora_training import settings_with
from tests.arc_engine.adaptation.random_models import sequence

IN_FLOAT64 = 1e-11

BATCHES = (
    portions_of([sequence(30, seed=1), sequence(26, seed=2)])[0],
    Portion((sequence(17, seed=3),), (0,), 12),
    portions_of([sequence(25, seed=seed) for seed in (4, 5, 6)])[0],
)
"""Of other lengths and numbers of sequences, so that each of them is padded."""


@dataclass(frozen=True, eq=False)
class RandomAdapter:
    """Both matrices of every layer far from 0: as a slot begins with them, in float64, and as files have them."""

    start: SlotStart
    adapter: Adapter


def random_adapter(base: LoadedBase, *, seed: int, **values: Any) -> RandomAdapter:
    form = adapter_form(base, settings=settings_with(**values))
    rng = torch.Generator().manual_seed(seed)

    def drawn(like: Tensor) -> Tensor:
        return (0.3 * torch.randn(like.shape, generator=rng)).double()  # which is the same in float32

    matrices = {name: LoraMatrices(drawn(pair.lora_a), drawn(pair.lora_b)) for name, pair in form.trained.items()}
    by_layer = {name.removeprefix(PEFT_PREFIX): pair for name, pair in matrices.items()}
    return RandomAdapter(SlotStart(by_layer, {}, form.scale), form.filled(matrices))


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits, targets, reduction="sum")


def gradients_of_peft(
    base: LoadedBase, adapter: Adapter, portion: Portion, folder: Path
) -> tuple[Tensor, dict[str, LoraMatrices]]:
    """The sum of the losses and the gradients by layer, of transformers' code and PEFT's, sequence by sequence."""
    adapter.save(folder)
    model = PeftModel.from_pretrained(copy.deepcopy(base.model), folder, is_trainable=True).double().eval()
    losses = []
    for example in portion.examples:
        ids, is_target = torch.tensor([example.ids]), torch.tensor(example.is_target)
        logits = model(input_ids=ids).logits[0, :-1]
        losses.append(loss_of(logits[is_target[1:]], ids[0, 1:][is_target[1:]]))
    loss = torch.stack(losses).sum()
    loss.backward()
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            pair = module.lora_A["default"].weight.grad, module.lora_B["default"].weight.grad
            found[name.removeprefix(PEFT_PREFIX)] = LoraMatrices(*pair)
    return loss.detach(), found


def gradients_of_decoder(
    decoder: Decoder, base: LoadedBase, adapters: Sequence[RandomAdapter]
) -> tuple[Tensor, list[dict[str, LoraMatrices]]]:
    """The same of the first of `BATCHES`, one for every adapter, in one pass of a decoder of ours."""
    slots = Slots(decoder.sites, device="cpu", dtype=torch.float64)
    seats = [slots.add(one.start) for one in adapters]
    batch = collate(BATCHES[: len(adapters)], device="cpu")
    weights = slots.weights(seats)
    with decoder.hidden(batch, Adapters(slots.by_site(weights), slots.scales(seats))) as hidden:
        logits = base.model.get_output_embeddings()(hidden)
        is_real = batch.weights > 0
        losses = torch.stack(
            [
                loss_of(*(tensor[slot][is_real[slot]] for tensor in (logits, batch.target_ids)))
                for slot in range(len(seats))
            ]
        )
        (gradients,) = torch.autograd.grad(losses.sum(), weights)
    layout = _layout(decoder, adapters)
    return losses.detach(), [
        {
            name: LoraMatrices(pair.lora_a[: one.start.rank], pair.lora_b[:, : one.start.rank])
            for name, pair in layout.layers(row)
            if name in one.start.matrices
        }
        for one, row in zip(adapters, gradients, strict=True)
    ]


def _layout(decoder: Decoder, adapters: Sequence[RandomAdapter]) -> Layout:
    layers = {name for one in adapters for name in one.start.matrices}
    sites = tuple(site for site in decoder.sites if layers.intersection(site.layers))
    return Layout(sites, max(one.start.rank for one in adapters))


def assert_equal(found: Mapping[str, LoraMatrices], expected: Mapping[str, LoraMatrices]) -> None:
    assert found.keys() == expected.keys()
    for name, pair in expected.items():
        for side in ("lora_a", "lora_b"):
            assert getattr(pair, side).norm() > 1e-3, "or nothing is compared"
            torch.testing.assert_close(getattr(found[name], side), getattr(pair, side), rtol=IN_FLOAT64, atol=1e-12)


def assert_is_plain_peft(
    decoder: Decoder, base: LoadedBase, adapters: Sequence[RandomAdapter], *, folder: Path
) -> None:
    """That the pass gives every adapter the losses and gradients that it has in PEFT's own layers."""
    losses, gradients = gradients_of_decoder(decoder, base, adapters)
    for number, one in enumerate(adapters):
        loss, expected = gradients_of_peft(base, one.adapter, BATCHES[number], folder / str(number))
        torch.testing.assert_close(losses[number], loss, rtol=IN_FLOAT64, atol=0)
        assert_equal(gradients[number], expected)
