"""Adapters on disk, prompts, and transformers as the reference to compare with."""

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.sampling.engine_process import Limits
from arc_engine.sampling.protocol import AdapterFolder, Prompt
from arc_engine.sampling.torch_sampler import TorchSampler
from arc_engine.sampling.vllm_sampler import VllmOptions, VllmSampler
from tests.arc_engine.sampling import scripted_engine
from tests.arc_engine.sampling.reference import Reference, make_adapter


@pytest.fixture(scope="session")
def new_adapter(tiny_base: Path) -> Callable[..., AdapterFolder]:
    """Makes adapters of the tiny base."""
    return functools.partial(make_adapter, tiny_base)


@pytest.fixture(scope="session")
def adapters(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, AdapterFolder]:
    """Two adapters by rank."""
    folder = tmp_path_factory.mktemp("adapters")
    return {rank: make_adapter(tiny_base, folder / f"rank-{rank}", rank=rank, seed=rank) for rank in (4, 8)}


@pytest.fixture(scope="session")
def prompts() -> list[Prompt]:
    """Prompts of different lengths."""
    generator = torch.Generator().manual_seed(0)
    lengths = (3, 40, 17, 64, 5, 29)
    return [
        Prompt((1, *torch.randint(5, 99, (length,), generator=generator).tolist()), seed=number)
        for number, length in enumerate(lengths)
    ]


@pytest.fixture(scope="session")
def reference(tiny_base: Path) -> Callable[[AdapterFolder | None], Reference]:
    """The reference for the tiny base with an adapter or without."""
    return lambda adapter: Reference(tiny_base, adapter)


@pytest.fixture(scope="session")
def vllm_sampler(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmSampler]:
    """One engine for all tests, as far as they let it live: it takes 12 to 40 s to start."""
    log_file = tmp_path_factory.mktemp("vllm") / "engine.log"
    sampler = VllmSampler(tiny_base, options=VllmOptions(max_lora_rank=8, max_loras=3, log_file=log_file))
    sampler.start()
    yield sampler
    sampler.close()


@pytest.fixture
def starts(tmp_path: Path) -> Path:
    """A folder with a file for every scripted engine that was started."""
    (tmp_path / "starts").mkdir()
    return tmp_path / "starts"


@pytest.fixture
def sampler_that(starts: Path, tmp_path: Path) -> Iterator[Callable[..., VllmSampler]]:
    """Makes samplers whose engines behave as told."""
    made: list[VllmSampler] = []

    def make(behaviour: str, limits: Limits | None = None) -> VllmSampler:
        options = VllmOptions(
            command=(sys.executable, scripted_engine.__file__, behaviour, str(starts)),
            limits=limits or Limits(),
            log_file=tmp_path / "engine.log",
        )
        made.append(VllmSampler(tmp_path, options=options))
        return made[-1]

    yield make
    for sampler in made:
        sampler.close()


@pytest.fixture(scope="session")
def loaded(tiny_base: Path) -> LoadedBase:
    """The tiny base in memory."""
    return load_base(tiny_base, device="cpu")


@pytest.fixture
def sampler(loaded: LoadedBase) -> TorchSampler:
    """The torch backend with the tiny base."""
    return TorchSampler(load=lambda _: loaded)
