"""What scripted engines are asked, and what they answer."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from arc_engine.sampling.protocol import Completion, Greedy, Prompt, SampleRequest, Samples, SamplingParameters
from arc_engine.sampling.vllm_sampler import VllmSampler
from tests.arc_engine.sampling.scripted_engine import POISON, TAR

PROMPTS = (Prompt((1, 2, 3), seed=0), Prompt((1, 2), seed=1))
GREEDY = SamplingParameters(Greedy(), max_new_tokens=4, stop_token_id=None)
REQUEST = SampleRequest(PROMPTS, None, GREEDY)
DEADLY = SampleRequest((Prompt((POISON,), seed=0),), None, GREEDY)
STICKY = SampleRequest((Prompt((TAR,), seed=0),), None, GREEDY)


def sample(sampler: VllmSampler, base: Path) -> tuple[Samples, ...]:
    """The answer to one request that is not refused."""
    [found] = sampler.sample([REQUEST], base=base)
    assert isinstance(found, tuple)
    return found


def answer_of_start(number: int, *, num_prompts: int = len(PROMPTS)) -> tuple[Samples, ...]:
    """What the engine says that was started as the so-manieth."""
    return (Samples((Completion((number,), -1.0, finished=True),)),) * num_prompts


def eventually(condition: Callable[[], bool], *, within_s: float = 20.0) -> None:
    """Waits for what another process does."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, waited for or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
