"""Any causal language model of transformers, computed by its own code."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn

from arc_engine.adaptation.checkpointing import gradient_checkpointing
from arc_engine.adaptation.decoders.protocol import Adapters
from arc_engine.adaptation.packed_batch import PackedBatch
from arc_engine.adaptation.sites import Site, SiteMatrices, single_sites
from arc_engine.adaptation.slot_linear import slot_linear
from arc_engine.adaptation.targets import adaptable_layers
from arc_engine.base_models.loading import LoadedBase

Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]


class HookedDecoder:
    """Adds the adapters to what the model's linear layers answer, by forward hooks for as long as the context lasts.

    A layer that is used several times in one call, or not on `[sequences, tokens, features]`, is none that this knows.
    """

    def __init__(self, base: LoadedBase, *, checkpointing: bool = False) -> None:
        self._base = base
        self._layers = adaptable_layers(base.model)
        self._checkpointing = checkpointing
        self.sites: tuple[Site, ...] = single_sites(self._layers)

    @contextmanager
    def hidden(self, batch: PackedBatch, adapters: Adapters) -> Iterator[Tensor]:
        checkpointing = gradient_checkpointing(self._base) if self._checkpointing else nullcontext()
        with checkpointing, self._hooked(batch, adapters):
            # There is no attention mask, because a causal model never sees padding on the right.
            decoder = self._base.model.get_decoder()
            found = decoder(input_ids=batch.input_ids, use_cache=False).last_hidden_state
            found = found.unflatten(0, (batch.num_slots, batch.num_rows)).flatten(1, 2)  # [slots, tokens, width]
            yield found.gather(1, batch.labelled.unsqueeze(-1).expand(-1, -1, found.shape[-1]))

    @contextmanager
    def _hooked(self, batch: PackedBatch, adapters: Adapters) -> Iterator[None]:
        with ExitStack() as removed:
            for index, (layer, matrices) in enumerate(zip(self._layers.values(), adapters.matrices, strict=True)):
                if matrices is not None:
                    handle = layer.register_forward_hook(_hook(index, matrices, batch, adapters))
                    removed.callback(handle.remove)
            yield


def _hook(site: int, matrices: SiteMatrices, batch: PackedBatch, adapters: Adapters) -> Hook:
    def hook(_: Any, arguments: tuple[Tensor, ...], result: Tensor) -> Tensor:  # noqa: ANN401 - the layer
        inputs = _by_slot(arguments[0], batch)
        kept = None if adapters.dropout is None else adapters.dropout.kept(site, inputs)
        (adapted,) = slot_linear(
            inputs,
            (),
            matrices,
            scales=adapters.scales,
            kept=kept,
            added_to=(_by_slot(result, batch),),
        )
        return adapted.view_as(result)

    return hook


def _by_slot(tensor: Tensor, batch: PackedBatch) -> Tensor:
    return tensor.reshape(batch.num_slots, -1, tensor.shape[-1])
