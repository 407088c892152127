"""The client against engines that die, hang and lie; the real engine is in test_vllm_sampler.py."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from arc_engine.errors import AdapterRefused, SamplerFailed
from arc_engine.sampling.engine_process import EngineDied, EngineTimedOut, Limits
from arc_engine.sampling.protocol import Completion, Prompt, SamplingParameters
from arc_engine.sampling.vllm_sampler import VllmOptions, VllmSampler

PROMPTS = (Prompt((1, 2, 3), seed=0), Prompt((1, 2), seed=1))
GREEDY = SamplingParameters(num_samples=1, temperature=0.0, top_p=1.0, max_new_tokens=4, stop_token_id=None)
SCRIPT = Path(__file__).with_name("scripted_engine.py")


def eventually(condition: Callable[[], bool], *, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def starts(tmp_path: Path) -> Path:
    (tmp_path / "starts").mkdir()
    return tmp_path / "starts"


@pytest.fixture
def sampler_that(starts: Path, tmp_path: Path):
    made: list[VllmSampler] = []

    def make(behaviour: str, limits: Limits | None = None) -> VllmSampler:
        options = VllmOptions(
            command=(sys.executable, str(SCRIPT), behaviour, str(starts)),
            limits=limits or Limits(),
            log_file=tmp_path / "engine.log",
        )
        made.append(VllmSampler(tmp_path, options=options))
        return made[-1]

    yield make
    for sampler in made:
        sampler.close()


def sample(sampler: VllmSampler, base: Path) -> list[list[Completion]]:
    return sampler.sample(PROMPTS, base=base, adapter=None, parameters=GREEDY)


def answer_of_start(number: int) -> list[list[Completion]]:
    return [[Completion((number,), -1.0, finished=True)]] * len(PROMPTS)


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


def test_an_engine_that_dies_during_a_request_is_replaced_and_the_request_repeated(
    sampler_that, tmp_path: Path
) -> None:
    assert sample(sampler_that("die once"), tmp_path) == answer_of_start(2)


def test_a_second_death_fails_the_request(sampler_that, starts: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineDied, match=r"exit status 3.*engine\.log"):
        sample(sampler_that("always die"), tmp_path)
    assert len(list(starts.iterdir())) == 2


def test_an_engine_killed_between_requests_is_replaced(sampler_that, tmp_path: Path) -> None:
    sampler = sampler_that("be good")
    sample(sampler, tmp_path)
    pid = sampler.engine_pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: is_gone(pid))
    assert sample(sampler, tmp_path) == answer_of_start(2)


@pytest.mark.parametrize("behaviour", ["hang", "hang at start"])
def test_an_engine_that_hangs_is_killed_at_its_limit_and_the_request_fails(
    behaviour: str, sampler_that, starts: Path, tmp_path: Path
) -> None:
    limits = Limits(startup_s=1.0) if behaviour == "hang at start" else Limits(request_s=0.3)
    sampler = sampler_that(behaviour, limits)
    sampler.start()
    pid = sampler.engine_pid
    with pytest.raises(EngineTimedOut, match="took longer"):
        sample(sampler, tmp_path)
    eventually(lambda: is_gone(pid))
    assert len(list(starts.iterdir())) <= 1


def test_a_failing_start_tells_why_and_is_tried_again_only_by_the_next_request(
    sampler_that, starts: Path, tmp_path: Path
) -> None:
    sampler = sampler_that("fail at start")
    for number in (1, 2):
        with pytest.raises(SamplerFailed, match="no such model"):
            sample(sampler, tmp_path)
        assert len(list(starts.iterdir())) == number


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
        with pytest.raises(AdapterRefused, match="not this one"):
            sample(sampler, tmp_path)
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
    eventually(sampler._request_lock.locked)
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
    prompts = [Prompt(tuple(range(5000)), seed=0)] * 100
    found = sampler_that("be good").sample(prompts, base=tmp_path, adapter=None, parameters=GREEDY)
    assert len(found) == 100


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
