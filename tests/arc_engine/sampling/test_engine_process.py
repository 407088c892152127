"""The client and its engine process from start to end; the real engine is in test_vllm_sampler.py."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from arc_engine.errors import AdapterRefused, BaseModelError, MethodUnsupported, SamplerFailed
from arc_engine.sampling.engine_process import Limits
from arc_engine.sampling.protocol import AdapterFolder, DepthFirst, Prompt, SampleRequest, SamplingParameters
from arc_engine.sampling.vllm_sampler import VllmOptions, VllmSampler
from arc_engine.sampling.wire import SampleJob, ScoreJob
from tests.arc_engine.sampling.scripted_calls import (
    GREEDY,
    PROMPTS,
    REQUEST,
    answer_of_start,
    eventually,
    is_gone,
    sample,
)
from tests.arc_engine.sampling.scripted_engine import MAX_MODEL_LEN


def test_the_engine_starts_once_and_is_kept(sampler_that, starts: Path, tmp_path: Path) -> None:
    sampler = sampler_that("be good")
    sampler.start()
    sampler.start()
    assert sample(sampler, tmp_path) == sample(sampler, tmp_path) == answer_of_start(1)


def test_start_does_not_wait(sampler_that) -> None:
    sampler = sampler_that("hang at start")
    started = time.monotonic()
    sampler.start()
    assert time.monotonic() - started < 5


def test_what_vllm_cannot_do_or_take_is_refused_without_an_engine(sampler_that, starts: Path, tmp_path: Path) -> None:
    sampler = sampler_that("be good")
    dfs = SampleRequest(PROMPTS, None, SamplingParameters(DepthFirst(0.1), max_new_tokens=4, stop_token_id=None))
    adapters = [AdapterFolder("large", tmp_path, rank=513), AdapterFolder("missing", tmp_path, rank=8)]
    refused = [dfs, *(SampleRequest(PROMPTS, adapter, GREEDY) for adapter in adapters)]
    errors = sampler.sample(refused, base=tmp_path)
    assert [type(error) for error in errors] == [MethodUnsupported, AdapterRefused, AdapterRefused]
    assert "rank 512 at most" in str(errors[1])
    assert "missing" in str(errors[2])
    assert not list(starts.iterdir())
    found = sampler.sample([refused[0], REQUEST, refused[1]], base=tmp_path)
    assert [type(found[0]), found[1], type(found[2])] == [MethodUnsupported, answer_of_start(1), AdapterRefused]


def test_a_rank_that_no_engine_takes_does_not_cost_the_engine_there_is(sampler_that, tmp_path: Path) -> None:
    sampler = sampler_that("be good")
    sample(sampler, tmp_path)
    with pytest.raises(AdapterRefused, match="rank 512 at most"):
        sampler.start(lora_rank=513)
    assert sample(sampler, tmp_path) == answer_of_start(1)


def test_a_broken_base_is_the_error_of_the_requests_that_have_to_do_with_it(sampler_that, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text("not json")
    compared = SampleRequest(PROMPTS, AdapterFolder("a", tmp_path, rank=8), GREEDY)
    refused, answered = sampler_that("be good").sample([compared, REQUEST], base=tmp_path)
    assert type(refused) is BaseModelError
    assert answered == answer_of_start(1)


def test_an_engine_says_how_long_its_sequences_may_be(sampler_that, starts: Path, tmp_path: Path) -> None:
    sampler = sampler_that("be good")
    assert sampler.max_positions(base=tmp_path) == MAX_MODEL_LEN
    assert sampler.max_positions(base=tmp_path, lora_rank=8) == MAX_MODEL_LEN
    assert sample(sampler, tmp_path) == answer_of_start(1)
    assert sampler.max_positions(base=tmp_path, lora_rank=513) == MAX_MODEL_LEN, "which is refused later, by its name"
    assert len(list(starts.iterdir())) == 1


def test_what_would_override_the_options_is_not_passed_on(
    sampler_that, starts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "40")
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    sample(sampler_that("tell its environment"), tmp_path)
    names = (starts / "environment").read_text().split("\n")
    assert "SOMETHING_ELSE" in names
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" in names
    assert "VLLM_CPU_KVCACHE_SPACE" not in names


def test_a_call_may_take_as_long_as_its_jobs_one_after_the_other() -> None:
    def job(time_budget_s: float | None) -> SampleJob:
        return SampleJob(PROMPTS, None, dataclasses.replace(GREEDY, time_budget_s=time_budget_s))

    limits = Limits(request_s=100.0)
    assert limits.of(("sample", (job(None),))) == 100.0
    assert limits.of(("sample", (job(None), job(1.0), job(None)))) == 300.0
    assert limits.of(("sample", (job(None), job(500.0)))) > 100.0 + 500.0
    assert limits.of(("score", (ScoreJob((), None),) * 4)) == 400.0


def test_no_requests_are_no_work(sampler_that, starts: Path, tmp_path: Path) -> None:
    sampler = sampler_that("be good")
    assert sampler.sample([], base=tmp_path) == sampler.score([], base=tmp_path) == []
    assert not list(starts.iterdir())


def test_a_command_that_does_not_exist_tells_so(tmp_path: Path) -> None:
    sampler = VllmSampler(tmp_path, options=VllmOptions(command=(str(tmp_path / "nothing"),)))
    with pytest.raises(SamplerFailed, match="nothing"):
        sample(sampler, tmp_path)


@pytest.mark.parametrize("behaviour", ["talk nonsense", "too few"])
def test_nonsense_is_not_taken_for_an_answer(behaviour: str, sampler_that, tmp_path: Path) -> None:
    with pytest.raises(SamplerFailed):
        sample(sampler_that(behaviour), tmp_path)


def test_a_refusal_is_passed_on_and_the_engine_kept(sampler_that, starts: Path, tmp_path: Path) -> None:
    sampler = sampler_that("refuse")
    for _ in range(2):
        [refusal] = sampler.sample([REQUEST], base=tmp_path)
        assert isinstance(refusal, AdapterRefused)
        assert "not this one" in str(refusal)
    assert len(list(starts.iterdir())) == 1


def test_closing_from_another_thread_ends_a_request_and_the_engine(sampler_that, tmp_path: Path) -> None:
    sampler = sampler_that("hang")
    sampler.start()
    pid = sampler.engine_pid
    errors: list[Exception] = []

    def request() -> None:
        try:
            sample(sampler, tmp_path)
        except SamplerFailed as error:
            errors.append(error)

    thread = threading.Thread(target=request)
    thread.start()
    eventually(sampler._call_lock.locked)
    sampler.close()
    thread.join(timeout=20)
    assert len(errors) == 1
    eventually(lambda: is_gone(pid))
    with pytest.raises(SamplerFailed, match="closed"):
        sampler.start()


def test_many_callers_are_served_one_after_the_other(sampler_that, tmp_path: Path) -> None:
    sampler = sampler_that("be good")
    answers: list[object] = []
    threads = [threading.Thread(target=lambda: answers.append(sample(sampler, tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert answers == [answer_of_start(1)] * 8


def test_a_request_larger_than_a_pipe_holds_arrives(sampler_that, tmp_path: Path) -> None:
    request = SampleRequest((Prompt(tuple(range(5000)), seed=0),) * 100, None, GREEDY)
    assert sampler_that("be good").sample([request], base=tmp_path) == [answer_of_start(1, num_prompts=100)]


def test_another_base_gets_another_engine(sampler_that, tmp_path: Path) -> None:
    sampler = sampler_that("be good")
    assert sample(sampler, tmp_path) == answer_of_start(1)
    assert sample(sampler, tmp_path / "starts") == answer_of_start(2)
    assert sample(sampler, tmp_path / "starts") == answer_of_start(2)


def test_the_scratch_folder_of_an_engine_goes_with_it(sampler_that, tmp_path: Path, monkeypatch) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    sampler = sampler_that("be good")
    sample(sampler, tmp_path)
    assert len(list(scratch.iterdir())) == 1
    pid = sampler.engine_pid
    sampler.close()
    assert is_gone(pid)
    assert not list(scratch.iterdir())


PARENT = """
import sys, threading, time
from pathlib import Path
from arc_engine.sampling.vllm_sampler import VllmOptions, VllmSampler
sampler = VllmSampler(Path(sys.argv[1]), options=VllmOptions(log_file=Path(sys.argv[1], "log")))
starter = threading.Thread(target=sampler.start)  # a thread that ends must not take the engine with it
starter.start()
starter.join()
print(sampler.engine_pid, flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None], ids=["SIGKILL", "SIGTERM", "normal exit"])
def test_the_real_engine_process_dies_with_its_parent(
    end: signal.Signals | None, tiny_base: Path, tmp_path: Path
) -> None:
    for file in tiny_base.iterdir():
        (tmp_path / file.name).symlink_to(file)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    pid = int(parent.stdout.readline())
    engine = psutil.Process(pid)
    eventually(lambda: engine.cpu_times().user > 0.5)  # up and importing vLLM
    if end is None:
        parent.stdin.close()
    else:
        parent.send_signal(end)
    parent.wait(timeout=20)
    eventually(lambda: is_gone(pid))
