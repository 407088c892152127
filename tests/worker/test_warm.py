"""What a worker keeps from job to job."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

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
        self.ranks: list[int] = []

    def start(self, *, lora_rank: int = 0) -> None:
        self.ranks.append(lora_rank)

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


def use(models: WarmModels, base: Path, settings: SamplingSettings) -> Made:
    """As a call to the sampler does."""
    with models.sampling(base, settings=settings) as sampler:
        return cast("Made", sampler)


@contextmanager
def in_use_elsewhere(models: WarmModels, base: Path, settings: SamplingSettings) -> Iterator[int]:
    """Another thread is in the middle of a call; gives that thread."""
    entered, leave = threading.Event(), threading.Event()

    def call() -> None:
        with models.sampling(base, settings=settings):
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=call)
    thread.start()
    assert entered.wait(30)
    assert thread.ident is not None
    try:
        yield thread.ident
    finally:
        leave.set()
        thread.join()


def test_both_backends_stay_warm_for_the_same_base(made: list[Made], tmp_path: Path):
    models = WarmModels()
    for settings in (VLLM, TORCH, VLLM, TORCH):
        use(models, tmp_path / "base", settings)
    assert [sampler.backend for sampler in made] == ["vllm", "torch"]
    assert not any(sampler.closed for sampler in made)


def test_another_base_closes_the_samplers_of_the_one_before(made: list[Made], tmp_path: Path):
    models = WarmModels()
    use(models, tmp_path / "one", VLLM)
    use(models, tmp_path / "one", TORCH)
    use(models, tmp_path / "other", TORCH)
    assert [(sampler.base.name, sampler.closed) for sampler in made] == [
        *(("one", True), ("one", True)),
        ("other", False),
    ]


def test_a_sampler_is_warmed_up_for_a_rank(made: list[Made], tmp_path: Path):
    models = WarmModels()
    models.warm_up(tmp_path / "one", settings=VLLM, lora_rank=32)
    models.warm_up(tmp_path / "other", settings=VLLM)
    assert [(sampler.ranks, sampler.closed) for sampler in made] == [([32], True), ([0], False)]


def test_nothing_is_warmed_up_while_another_thread_samples(made: list[Made], tmp_path: Path):
    models = WarmModels()
    with in_use_elsewhere(models, tmp_path / "one", VLLM):
        models.warm_up(tmp_path / "other", settings=VLLM)
        models.warm_up(tmp_path / "one", settings=VLLM, lora_rank=128)
        assert [(sampler.base.name, sampler.ranks, sampler.closed) for sampler in made] == [("one", [], False)]
    models.warm_up(tmp_path / "other", settings=VLLM)
    assert [(sampler.base.name, sampler.closed) for sampler in made] == [("one", True), ("other", False)]


def test_a_sampler_of_another_base_is_not_closed_under_the_thread_that_uses_it(made: list[Made], tmp_path: Path):
    models = WarmModels()
    with in_use_elsewhere(models, tmp_path / "one", VLLM):
        use(models, tmp_path / "other", TORCH)
        assert [(sampler.base.name, sampler.closed) for sampler in made] == [("one", False), ("other", False)]


def test_closed_samplers_are_not_given_out_again(made: list[Made], tmp_path: Path):
    models = WarmModels()
    use(models, tmp_path, VLLM)
    use(models, tmp_path, TORCH)
    models.close()
    assert all(sampler.closed for sampler in made)
    assert use(models, tmp_path, VLLM) is made[-1]
    assert (len(made), made[-1].closed) == (3, False)


def test_an_interrupt_ends_the_sampler_that_the_thread_uses_and_no_other(made: list[Made], tmp_path: Path):
    models, me = WarmModels(), threading.get_ident()
    models.interrupt(me)
    use(models, tmp_path, TORCH)
    models.interrupt(me)  # it is idle
    with in_use_elsewhere(models, tmp_path, VLLM) as thread:
        models.interrupt(me)
        with models.sampling(tmp_path, settings=TORCH):
            models.interrupt(thread)
            models.interrupt(thread)
            assert [(sampler.backend, sampler.closed) for sampler in made] == [("torch", False), ("vllm", True)]
            models.interrupt(me)
            assert made[0].closed
    assert use(models, tmp_path, TORCH) is made[2]


def test_engines_get_the_installations_options(made: list[Made], tmp_path: Path):
    options = vllm_options(VllmConfig(kv_cache_gib=2.5, max_num_seqs=32, max_loras=2, request_limit_s=60))
    WarmModels(vllm=options).warm_up(tmp_path, settings=VLLM)
    assert made[0].options == options
    assert (options.kv_cache_gib, options.max_num_seqs, options.max_loras) == (2.5, 32, 2)
    assert (options.limits.request_s, options.limits.startup_s) == (60, VllmOptions().limits.startup_s)


def test_what_the_installation_does_not_say_is_as_the_engine_has_it():
    assert vllm_options(VllmConfig()) == VllmOptions()
