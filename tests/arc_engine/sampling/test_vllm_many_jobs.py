"""One real engine process for many jobs, as a worker has it, against engines that have seen nothing before."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from arc_engine.sampling.protocol import AdapterFolder, Prompt, Question
from arc_engine.sampling.vllm_sampler import VllmOptions, VllmSampler
from tests.arc_engine.sampling.reference import NUCLEUS, STOP, continued, scored

NUM_JOBS = 20
RANKS = (1, 8, 32)
MIB = 2**20
MOST_GROWTH_MIB = 48  # of which the key-value cache, whose memory is the system's until it is written, may take 32

# Whole blocks of a prompt are kept as prefixes, of 128 tokens on a CPU: the jobs' prompts begin alike.
PREFIX = (1, *(5 + 7 * number % 90 for number in range(299)))
PROMPTS = [Prompt((*PREFIX, 5 + number, 6), seed=number) for number in range(3)]
QUESTIONS = [Question(prompt.ids, ((7, 8, STOP), (9, STOP))) for prompt in PROMPTS]


@dataclass(frozen=True)
class Outcome:
    """What a job comes to."""

    greedy: tuple[tuple[int, ...], ...]
    drawn: tuple[tuple[int, ...], ...]
    scores: tuple[float, ...]


@contextlib.contextmanager
def engine(base: Path, folder: Path) -> Iterator[VllmSampler]:
    options = VllmOptions(max_lora_rank=max(RANKS), kv_cache_gib=32 / 1024, log_file=folder / "engine.log")
    sampler = VllmSampler(base, options=options)
    try:
        yield sampler
    finally:
        sampler.close()


def outcome(sampler: VllmSampler, adapter: AdapterFolder, *, base: Path) -> Outcome:
    greedy = continued(sampler, PROMPTS, base=base, adapter=adapter)
    drawn = continued(sampler, PROMPTS, base=base, adapter=adapter, parameters=NUCLEUS)
    scores = scored(sampler, QUESTIONS, base=base, adapter=adapter)
    return Outcome(
        greedy=tuple(samples.completions[0].ids for samples in greedy),
        drawn=tuple(completion.ids for samples in drawn for completion in samples.completions),
        scores=tuple(score for row in scores for score in row),
    )


def assert_same(outcomes: Sequence[Outcome], others: Sequence[Outcome]) -> None:
    for one, other in zip(outcomes, others, strict=True):
        assert (one.greedy, one.drawn) == (other.greedy, other.drawn)
        assert one.scores == pytest.approx(other.scores, abs=1e-3)


@pytest.fixture(scope="module")
def jobs(new_adapter: Callable[..., AdapterFolder], tmp_path_factory: pytest.TempPathFactory) -> list[AdapterFolder]:
    """An adapter each, all called the same."""
    folder = tmp_path_factory.mktemp("jobs")
    return [
        new_adapter(folder / f"{number}", rank=RANKS[number % len(RANKS)], seed=100 + number, name="adapter")
        for number in range(NUM_JOBS)
    ]


@pytest.fixture(scope="module")
def served(
    jobs: list[AdapterFolder], tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Outcome], list[int], list[float]]:
    """Outcomes of all jobs on one engine; its process and its memory, in MiB, after each."""
    outcomes, pids, memory = [], [], []
    with engine(tiny_base, tmp_path_factory.mktemp("served")) as sampler:
        for adapter in jobs:
            outcomes.append(outcome(sampler, adapter, base=tiny_base))
            assert sampler.engine_pid is not None
            pids.append(sampler.engine_pid)
            memory.append(psutil.Process(sampler.engine_pid).memory_info().rss / MIB)
    return outcomes, pids, memory


def test_one_process_serves_all_jobs(served: tuple[list[Outcome], list[int], list[float]]) -> None:
    outcomes, pids, _ = served
    assert len(outcomes) == NUM_JOBS
    assert len(set(pids)) == 1
    assert len({found.greedy for found in outcomes}) == NUM_JOBS, "every adapter says something else"


def test_its_memory_is_level_after_the_first_few_jobs(served: tuple[list[Outcome], list[int], list[float]]) -> None:
    _, _, memory = served
    assert max(memory[5:]) - memory[4] < MOST_GROWTH_MIB, memory


def test_every_job_has_what_transformers_and_peft_give(
    served: tuple[list[Outcome], list[int], list[float]],
    jobs: list[AdapterFolder],
    reference: Callable[..., Any],
) -> None:
    for adapter, found in zip(jobs, served[0], strict=True):
        plain = reference(adapter)
        for prompt, ids in zip(PROMPTS, found.greedy, strict=True):
            assert ids == tuple(t for t in plain.greedy(prompt, max_new_tokens=24) if t != STOP)
        expected = [
            plain.log_probability(prompt, answer)
            for prompt, question in zip(PROMPTS, QUESTIONS, strict=True)
            for answer in question.answers
        ]
        assert found.scores == pytest.approx(expected, abs=1e-3)


def test_another_engine_gives_the_same_in_another_order(
    served: tuple[list[Outcome], list[int], list[float]],
    jobs: list[AdapterFolder],
    tiny_base: Path,
    tmp_path: Path,
) -> None:
    order = sorted(range(NUM_JOBS), key=lambda number: (number * 7) % NUM_JOBS, reverse=True)
    with engine(tiny_base, tmp_path) as sampler:
        found = {number: outcome(sampler, jobs[number], base=tiny_base) for number in order}
    assert_same([found[number] for number in range(NUM_JOBS)], served[0])


@pytest.mark.parametrize("number", [0, 7, NUM_JOBS - 1])
def test_an_engine_of_its_own_gives_a_job_the_same(
    number: int,
    served: tuple[list[Outcome], list[int], list[float]],
    jobs: list[AdapterFolder],
    tiny_base: Path,
    tmp_path: Path,
) -> None:
    with engine(tiny_base, tmp_path) as sampler:
        assert_same([outcome(sampler, jobs[number], base=tiny_base)], [served[0][number]])
