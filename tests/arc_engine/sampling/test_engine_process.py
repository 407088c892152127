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

from arc_engine.errors import AdapterRefused, MethodUnsupported, SamplerFailed
from arc_engine.sampling.engine_process import EngineDied, EngineTimedOut, Limits
from arc_engine.sampling.protocol import (
    AdapterFolder,
    Completion,
    DepthFirst,
    Greedy,
    Prompt,
    Question,
    SampleRequest,
    Samples,
    SamplingParameters,
    ScoreRequest,
)
from arc_engine.sampling.vllm_sampler import VllmOptions, VllmSampler

POISON = 666  # a prompt that begins so ends any scripted engine
PROMPTS = (Prompt((1, 2, 3), seed=0), Prompt((1, 2), seed=1))
GREEDY = SamplingParameters(Greedy(), max_new_tokens=4, stop_token_id=None)
REQUEST = SampleRequest(PROMPTS, None, GREEDY)
DEADLY = SampleRequest((Prompt((POISON,), seed=0),), None, GREEDY)
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


def sample(sampler: VllmSampler, base: Path) -> tuple[Samples, ...]:
    [found] = sampler.sample([REQUEST], base=base)
    assert isinstance(found, tuple)
    return found


def answer_of_start(number: int, *, num_prompts: int = len(PROMPTS)) -> tuple[Samples, ...]:
    return (Samples((Completion((number,), -1.0, finished=True),)),) * num_prompts


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


def test_of_several_requests_only_the_one_that_kills_engines_fails(sampler_that, starts: Path, tmp_path: Path) -> None:
    sampler = sampler_that("be good")
    found = sampler.sample([REQUEST, DEADLY, REQUEST], base=tmp_path)
    # Together twice, then one by one: the third engine does not survive the second request.
    assert [found[0], found[2]] == [answer_of_start(3), answer_of_start(4)]
    assert isinstance(found[1], SamplerFailed)
    assert "exit status 5" in str(found[1])
    assert sample(sampler, tmp_path) == answer_of_start(4)
    assert len(list(starts.iterdir())) == 4


def test_scoring_isolates_a_deadly_request_as_well(sampler_that, tmp_path: Path) -> None:
    good = ScoreRequest((Question((1,), ((2,), (3, 4))), Question((1,), ())), None)
    deadly = ScoreRequest((Question((POISON,), ((2,),)),), None)
    found = sampler_that("be good").score([deadly, good], base=tmp_path)
    assert isinstance(found[0], SamplerFailed)
    assert found[1] == ((-1.0, -1.0), ())


def test_where_every_request_kills_the_engine_the_call_fails(sampler_that, starts: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineDied, match="exit status 3"):
        sampler_that("always die").sample([REQUEST, REQUEST], base=tmp_path)
    assert len(list(starts.iterdir())) == 4


def test_an_engine_that_does_not_start_again_fails_the_call(sampler_that, starts: Path, tmp_path: Path) -> None:
    with pytest.raises(SamplerFailed, match="no such model"):
        sampler_that("fail to start again").sample([REQUEST, DEADLY], base=tmp_path)
    assert len(list(starts.iterdir())) == 2


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


def test_no_requests_are_no_work(sampler_that, starts: Path, tmp_path: Path) -> None:
    sampler = sampler_that("be good")
    assert sampler.sample([], base=tmp_path) == sampler.score([], base=tmp_path) == []
    assert not list(starts.iterdir())


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
