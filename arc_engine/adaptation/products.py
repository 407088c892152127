"""The matrix products of a training step, by the library that is fastest on the processor at hand.

torch has MKL multiply float32 matrices, and on AMD's processors MKL does without AVX-512. oneDNN, which torch brings
along too, does not: twice the speed. Which of them multiplies is decided by the processor alone, never by a
measurement, so that the same machine always rounds the same way.
"""

from functools import cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

_SLOW_WITH_MKL: Final = "AuthenticAMD"
_ALGORITHM: Final[tuple[str, list[None], str]] = ("none", [], "")
"""Nothing is done to the product."""


def product(left: Tensor, right: Tensor, added: Tensor | None = None) -> Tensor:
    """`left @ right.T`, and `added`, `[m, n]` or `[n]`: `[m, i]` and `[n, i]` to `[m, n]`. No gradients pass."""
    if not _is_for_onednn(left):
        return torch.mm(left, right.t()) if added is None else torch.addmm(added, left, right.t())
    # What torch.compile makes of a linear layer; torch has no public name for it.
    found: Tensor = torch.ops.mkldnn._linear_pointwise(_plain(left), _plain(right), None, *_ALGORITHM)  # noqa: SLF001
    return found if added is None else found.add_(added)


def slot_products(left: Tensor, right: Tensor, added: Tensor | None = None) -> Tensor:
    """The same for every slot: `[slots, m, i]` and `[slots, n, i]` to `[slots, m, n]`, of which shape `added` is."""
    if not _is_for_onednn(left):
        return torch.bmm(left, right.mT) if added is None else torch.baddbmm(added, left, right.mT)
    if len(left) == 1:
        found = product(left[0], right[0]).unsqueeze(0)
    else:
        found = torch.stack([product(*pair) for pair in zip(left, right, strict=True)])
    return found if added is None else found.add_(added)


def _is_for_onednn(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and uses_onednn()


@cache
def uses_onednn() -> bool:
    """Whether oneDNN multiplies float32 matrices on this machine."""
    return (
        torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and _vendor() == _SLOW_WITH_MKL
    )


def _vendor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def _plain(matrix: Tensor) -> Tensor:
    """Rows or columns one after the other: of other layouts oneDNN makes a reference computation."""
    return matrix if matrix.is_contiguous() or matrix.t().is_contiguous() else matrix.contiguous()
