"""Engines that die or hang, and the requests that make them: what is repeated, what is tried alone, what fails."""

import os
import signal
from pathlib import Path

import pytest

from arc_engine.errors import SamplerFailed
from arc_engine.sampling.engine_process import EngineDied, EngineTimedOut, Limits
from arc_engine.sampling.protocol import Question, SampleRequest, ScoreRequest
from tests.arc_engine.sampling.scripted_calls import (
    DEADLY,
    REQUEST,
    STICKY,
    answer_of_start,
    eventually,
    is_gone,
    sample,
)
from tests.arc_engine.sampling.scripted_engine import POISON, TAR

IMPATIENT = Limits(request_s=0.7)


def num_starts(starts: Path) -> int:
    return len(list(starts.iterdir()))


@pytest.mark.parametrize("behaviour", ["die once", "hang once", "die at start once"])
def test_an_engine_that_dies_or_hangs_is_replaced_and_the_request_repeated(
    behaviour: str, sampler_that, tmp_path: Path
) -> None:
    assert sample(sampler_that(behaviour, IMPATIENT), tmp_path) == answer_of_start(2)


def test_a_second_death_fails_the_request(sampler_that, starts: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineDied, match=r"exit status 3.*engine\.log"):
        sample(sampler_that("always die"), tmp_path)
    assert num_starts(starts) == 2


def test_a_second_hang_fails_the_request_and_leaves_no_engine(sampler_that, starts: Path, tmp_path: Path) -> None:
    sampler = sampler_that("hang", IMPATIENT)
    sampler.start()
    pid = sampler.engine_pid
    with pytest.raises(EngineTimedOut, match="took longer"):
        sample(sampler, tmp_path)
    assert num_starts(starts) == 2
    eventually(lambda: is_gone(pid) and is_gone(sampler.engine_pid))


@pytest.mark.parametrize(
    ("culprit", "told"), [(DEADLY, "exit status 5"), (STICKY, "took longer")], ids=["death", "hang"]
)
def test_of_several_requests_only_the_one_that_ends_engines_fails(
    culprit: SampleRequest, told: str, sampler_that, starts: Path, tmp_path: Path
) -> None:
    sampler = sampler_that("be good", IMPATIENT)
    found = sampler.sample([REQUEST, culprit, REQUEST], base=tmp_path)
    # Together twice, then one by one: the third engine does not survive the second request.
    assert [found[0], found[2]] == [answer_of_start(3), answer_of_start(4)]
    assert isinstance(found[1], SamplerFailed)
    assert told in str(found[1])
    assert sample(sampler, tmp_path) == answer_of_start(4)
    assert num_starts(starts) == 4


@pytest.mark.parametrize("token", [POISON, TAR], ids=["death", "hang"])
def test_scoring_isolates_such_a_request_as_well(token: int, sampler_that, tmp_path: Path) -> None:
    good = ScoreRequest((Question((1,), ((2,), (3, 4))), Question((1,), ())), None)
    culprit = ScoreRequest((Question((token,), ((2,),)),), None)
    found = sampler_that("be good", IMPATIENT).score([culprit, good], base=tmp_path)
    assert isinstance(found[0], SamplerFailed)
    assert found[1] == ((-1.0, -1.0), ())


def test_where_every_request_kills_the_engine_the_call_fails(sampler_that, starts: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineDied, match="exit status 3"):
        sampler_that("always die").sample([REQUEST, REQUEST], base=tmp_path)
    assert num_starts(starts) == 4


def test_an_engine_that_does_not_start_again_fails_the_call(sampler_that, starts: Path, tmp_path: Path) -> None:
    with pytest.raises(SamplerFailed, match="no such model"):
        sampler_that("start 1 times").sample([REQUEST, DEADLY], base=tmp_path)
    assert num_starts(starts) == 2


def test_what_was_answered_is_kept_when_there_is_no_engine_for_the_rest(
    sampler_that, starts: Path, tmp_path: Path
) -> None:
    found = sampler_that("start 3 times").sample([REQUEST, DEADLY, REQUEST, REQUEST], base=tmp_path)
    assert found[0] == answer_of_start(3)
    assert "exit status 5" in str(found[1])
    assert all(isinstance(error, SamplerFailed) and "no such model" in str(error) for error in found[2:])
    assert num_starts(starts) == 4


def test_a_death_at_start_is_no_request_s_fault(sampler_that, starts: Path, tmp_path: Path) -> None:
    found = sampler_that("die at start once").sample([REQUEST, DEADLY], base=tmp_path)
    # One that never was there, two that both requests were tried on, and one for each alone.
    assert found[0] == answer_of_start(4)
    assert isinstance(found[1], SamplerFailed)
    assert num_starts(starts) == 4


def test_an_engine_that_always_dies_at_start_is_not_started_for_ever(
    sampler_that, starts: Path, tmp_path: Path
) -> None:
    with pytest.raises(EngineDied, match=r"during the start-up \(exit status 4\)"):
        sampler_that("always die at start").sample([REQUEST, REQUEST], base=tmp_path)
    assert num_starts(starts) == 2


def test_a_start_that_hangs_is_ended_at_its_limit(sampler_that, starts: Path, tmp_path: Path) -> None:
    sampler = sampler_that("hang at start", Limits(startup_s=1.0))
    sampler.start()
    pid = sampler.engine_pid
    with pytest.raises(EngineTimedOut, match="the start-up took longer"):
        sample(sampler, tmp_path)
    eventually(lambda: is_gone(pid))
    assert num_starts(starts) <= 1


def test_a_failing_start_tells_why_and_is_tried_again_only_by_the_next_request(
    sampler_that, starts: Path, tmp_path: Path
) -> None:
    sampler = sampler_that("fail at start")
    for number in (1, 2):
        with pytest.raises(SamplerFailed, match="no such model"):
            sample(sampler, tmp_path)
        assert num_starts(starts) == number


def test_an_engine_killed_between_requests_is_replaced(sampler_that, tmp_path: Path) -> None:
    sampler = sampler_that("be good")
    sample(sampler, tmp_path)
    pid = sampler.engine_pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: is_gone(pid))
    assert sample(sampler, tmp_path) == answer_of_start(2)
