"""A forward and a backward pass of several adapters over the frozen base."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from arc_engine.adaptation.decoders import Adapters, decoder_of
from arc_engine.adaptation.dropout import Dropout
from arc_engine.adaptation.packed_batch import PackedBatch, collate
from arc_engine.adaptation.run import Run
from arc_engine.adaptation.sites import Site
from arc_engine.adaptation.slots import Slot, Slots
from arc_engine.base_models.loading import LoadedBase

MAX_LOGITS: Final = 2**26
"""Most numbers that the output layer makes at a time. Where there are more, they are made in parts, and each part again
for its gradients: a vocabulary of 150,000 would else take more memory than all the rest."""


class Pass:
    """The base and the slots that are trained on it."""

    def __init__(self, base: LoadedBase, *, checkpointing: bool = False) -> None:
        self._model = base.model
        self._device = base.device
        self._decoder = decoder_of(base, checkpointing=checkpointing)
        dtype = torch.float64 if base.model.dtype == torch.float64 else torch.float32
        self.slots = Slots(self._decoder.sites, device=base.device, dtype=dtype)

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every place of the base that can have LoRA matrices."""
        return self._decoder.sites

    def gradients(self, members: Sequence[tuple[Slot, Run]]) -> list[float]:
        """Takes the next portion of each run through the model, and adds to its slot's gradients.

        Returns what each portion adds to the loss of its run's step: that is the mean negative log-likelihood, in nats,
        of the batch's targets. The gradients are those of the loss times the run's `loss_scale`.
        """
        slots, runs = [slot for slot, _ in members], [run for _, run in members]
        batch = collate([run.portion for run in runs], device=self._device)
        weights = self.slots.weights(slots)
        with self._decoder.hidden(batch, self._adapters(weights, slots, runs, batch)) as hidden:
            losses = self._losses(hidden, batch)
            scales = torch.tensor([run.loss_scale.value for run in runs], device=losses.device, dtype=losses.dtype)
            (gradients,) = torch.autograd.grad((losses * scales).sum(), weights)
        self.slots.add_gradients(slots, gradients)
        found: list[float] = losses.tolist()
        return found

    def _adapters(self, weights: Tensor, slots: Sequence[Slot], runs: Sequence[Run], batch: PackedBatch) -> Adapters:
        dtype = self._model.dtype
        has_dropout = any(run.settings.lora_dropout for run in runs)
        return Adapters(
            self.slots.by_site(weights.to(dtype)),
            self.slots.scales(slots).to(dtype),
            Dropout([run.dropout for run in runs], batch) if has_dropout else None,
        )

    def _losses(self, hidden: Tensor, batch: PackedBatch) -> Tensor:
        """`[slots]`: what the targets of each slot's portion add to its loss."""
        vocabulary = self._model.get_output_embeddings()
        num_parts = -(-hidden.shape[0] * hidden.shape[1] * vocabulary.weight.shape[0] // MAX_LOGITS)
        pieces = (tensor.tensor_split(num_parts, dim=1) for tensor in (hidden, batch.target_ids, batch.weights))
        compute = partial(_losses, vocabulary)
        if num_parts > 1:
            compute = partial(checkpoint, compute, use_reentrant=False)
        return torch.stack([compute(*piece) for piece in zip(*pieces, strict=True)]).sum(dim=0)


def _losses(output_layer: torch.nn.Module, hidden: Tensor, target_ids: Tensor, weights: Tensor) -> Tensor:
    logits = output_layer(hidden).flatten(0, 1)
    if logits.dtype != torch.float64:
        logits = logits.float()
    likelihoods = functional.cross_entropy(logits, target_ids.flatten(), reduction="none")
    return (likelihoods.view_as(target_ids) * weights).sum(dim=1)
