"""Which code computes a base model."""

from arc_engine.adaptation.decoders import llama
from arc_engine.adaptation.decoders.hooked import HookedDecoder
from arc_engine.adaptation.decoders.protocol import Decoder
from arc_engine.base_models.loading import LoadedBase


def decoder_of(base: LoadedBase, *, checkpointing: bool = False) -> Decoder:
    """The fastest that knows the architecture; `checkpointing` keeps activations of layers' inputs only."""
    if llama.is_supported(base):
        return llama.LlamaDecoder(base, checkpointing=checkpointing)
    return HookedDecoder(base, checkpointing=checkpointing)
