"""What a worker keeps from job to job."""

from pathlib import Path
from typing import Any

import pytest

from arc_engine.sampling.vllm_sampler import VllmOptions
from arc_engine.settings import SamplingSettings
from jobs.config import VllmConfig
from worker import warm
from worker.warm import WarmModels, vllm_options

pytestmark = pytest.mark.fast

VLLM, TORCH = SamplingSettings(backend="vllm"), SamplingSettings(backend="torch")


class Made:
    """Stands for a sampler: here it only matters which one there is, and whether it is closed."""

    def __init__(self, backend: str, base: Path, options: VllmOptions | None) -> None:
        self.backend, self.base, self.options = backend, base, options
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Made]:
    """Every sampler that was made."""
    samplers: list[Made] = []

    def make(backend: str, *, base: Path, load: Any, options: VllmOptions | None) -> Made:
        samplers.append(Made(backend, base, options))
        return samplers[-1]

    monkeypatch.setattr(warm, "make_sampler", make)
    monkeypatch.setattr(warm, "choose", lambda settings: settings.backend)
    return samplers


def test_both_backends_stay_warm_for_the_same_base(made: list[Made], tmp_path: Path):
    models = WarmModels()
    for settings in (VLLM, TORCH, VLLM, TORCH):
        models.sampler(tmp_path / "base", settings=settings)
    assert [sampler.backend for sampler in made] == ["vllm", "torch"]
    assert not any(sampler.closed for sampler in made)


def test_another_base_closes_the_samplers_of_the_one_before(made: list[Made], tmp_path: Path):
    models = WarmModels()
    models.sampler(tmp_path / "one", settings=VLLM)
    models.sampler(tmp_path / "one", settings=TORCH)
    models.sampler(tmp_path / "other", settings=TORCH)
    assert [(sampler.base.name, sampler.closed) for sampler in made] == [
        *(("one", True), ("one", True)),
        ("other", False),
    ]


def test_closed_samplers_are_not_given_out_again(made: list[Made], tmp_path: Path):
    models = WarmModels()
    models.sampler(tmp_path, settings=VLLM)
    models.sampler(tmp_path, settings=TORCH)
    models.close()
    assert all(sampler.closed for sampler in made)
    assert models.sampler(tmp_path, settings=VLLM) is made[-1]
    assert (len(made), made[-1].closed) == (3, False)


def test_an_interrupt_ends_the_sampler_in_use_and_leaves_the_other_one_warm(made: list[Made], tmp_path: Path):
    models = WarmModels()
    models.interrupt()
    models.sampler(tmp_path, settings=TORCH)
    models.sampler(tmp_path, settings=VLLM)
    models.interrupt()
    models.interrupt()
    assert [(sampler.backend, sampler.closed) for sampler in made] == [("torch", False), ("vllm", True)]
    models.sampler(tmp_path, settings=TORCH)
    models.interrupt()
    assert made[0].closed
    assert models.sampler(tmp_path, settings=VLLM) is made[2]


def test_engines_get_the_installations_options(made: list[Made], tmp_path: Path):
    options = vllm_options(VllmConfig(kv_cache_gib=2.5, max_num_seqs=32, max_loras=2, request_limit_s=60))
    WarmModels(vllm=options).sampler(tmp_path, settings=VLLM)
    assert made[0].options == options
    assert (options.kv_cache_gib, options.max_num_seqs, options.max_loras) == (2.5, 32, 2)
    assert (options.limits.request_s, options.limits.startup_s) == (60, VllmOptions().limits.startup_s)


def test_what_the_installation_does_not_say_is_as_the_engine_has_it():
    assert vllm_options(VllmConfig()) == VllmOptions()
