"""The frozen base as a packed training sees it: tokens in, the loss of every slot out.

Any architecture is computed by its own code, with hooks that add what the adapters do (`hooked.py`); those of the Llama
family by ours, which does no work that a frozen model does not need (`llama.py`).
"""

from arc_engine.adaptation.decoders.choice import decoder_of
from arc_engine.adaptation.decoders.protocol import Adapters, Decoder

__all__ = ["Adapters", "Decoder", "decoder_of"]
