"""How many tokens a forward and backward pass has memory for."""

import os
from collections.abc import Sequence
from typing import Final

import torch

from arc_engine.adaptation.sites import Site
from arc_engine.base_models.loading import LoadedBase

SHARE: Final = 0.5
"""Of the free memory: the rest is for what is not counted, and for others."""
KEPT_PER_FEATURE: Final = 2
"""About how many numbers a decoder layer keeps for its gradients, and makes on its way back, per number that its linear
layers read and write."""


def token_budget(base: LoadedBase, sites: Sequence[Site]) -> int:
    """An estimate to begin with; one that is too high shows as running out of memory, and is lowered then."""
    features = sum(site.in_features + sum(site.out_features) for site in sites)
    bytes_per_token = KEPT_PER_FEATURE * features * base.model.dtype.itemsize
    return max(1, int(SHARE * _free_bytes(base.device) / bytes_per_token))


def _free_bytes(device: str) -> int:
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
