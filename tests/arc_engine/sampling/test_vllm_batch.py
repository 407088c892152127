"""The order in which a call's jobs go through vLLM, seen by an engine that counts: a token per step for every line."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from arc_engine.errors import AdapterRefused, MethodUnsupported
from arc_engine.sampling.vllm_batch import Batch, Job, Line
from arc_engine.sampling.wire import AdapterName

pytestmark = pytest.mark.fast


@dataclass
class CountingEngine:
    """Lines have as many tokens to come as their prompt says, and none below 0. Refuses the adapters in `refused`."""

    refused: tuple[int, ...] = ()
    on_step: Callable[[], None] = lambda: None
    on_load: Callable[[], None] = lambda: None
    lines: dict[str, tuple[int, Any]] = field(default_factory=dict)
    tokens: dict[str, list[int]] = field(default_factory=dict)
    loaded: set[int] = field(default_factory=set)
    events: list[tuple[str, int]] = field(default_factory=list)
    most_loaded: int = 0
    num_steps: int = 0

    def add_lora(self, lora_request: Any) -> bool:
        if lora_request.number in self.refused:
            raise ValueError("a wrong shape")
        assert lora_request.number not in self.loaded
        self.on_load()
        self.loaded.add(lora_request.number)
        self.most_loaded = max(self.most_loaded, len(self.loaded))
        self.events.append(("add", lora_request.number))
        return True

    def remove_lora(self, lora_id: int) -> bool:
        assert not any(adapter and adapter.number == lora_id for _, adapter in self.lines.values()), "in use"
        if lora_id in self.loaded:
            self.events.append(("remove", lora_id))
        self.loaded.discard(lora_id)
        return True

    def add_request(self, request_id: str, prompt: int, params: None, *, lora_request: Any) -> str:
        assert params is None
        if prompt < 0:
            raise ValueError("a length below 0")
        assert request_id not in self.tokens
        self.lines[request_id] = prompt, lora_request
        self.tokens[request_id] = []
        return f"{request_id}-inside"

    def abort_request(self, request_ids: list[str]) -> None:
        for request_id in request_ids:
            del self.lines[request_id]

    def step(self) -> list[Any]:
        self.num_steps += 1
        self.on_step()
        outputs = []
        for request_id, (length, adapter) in list(self.lines.items()):
            assert adapter is None or adapter.number in self.loaded
            self.tokens[request_id].append(length)
            finished = len(self.tokens[request_id]) == length
            if finished:
                del self.lines[request_id]
            completion = SimpleNamespace(token_ids=tuple(self.tokens[request_id]))
            outputs.append(
                SimpleNamespace(
                    request_id=request_id, outputs=[completion], num_cached_tokens=length, finished=finished
                )
            )
        return outputs


def adapter(number: int) -> AdapterName:
    return AdapterName(f"a#{number}", number, f"/a/{number}")


def job(*lengths: int, under: int | None = None, time_budget_s: float | None = None) -> Job:
    lines = [Line(length, None) for length in lengths]
    return Job(lines, None if under is None else adapter(under), time_budget_s=time_budget_s)


def run(engine: CountingEngine, *jobs: Job, max_loras: int = 2, clock: Callable[[], float] = lambda: 0.0) -> Batch:
    batch = Batch(engine, max_loras=max_loras, lora_request=AdapterName, clock=clock)
    batch.run(jobs)
    assert not engine.loaded
    assert not engine.lines
    return batch


def lengths(job: Job) -> list[int | None]:
    return [output and len(output.token_ids) for output in job.outputs]


def test_all_jobs_that_have_room_run_together_and_have_their_own_outputs() -> None:
    engine = CountingEngine()
    jobs = [job(3, 5, under=1), job(4), job(2, 1, under=2)]
    run(engine, *jobs)
    assert [lengths(one) for one in jobs] == [[3, 5], [4], [2, 1]]
    assert engine.num_steps == 5
    assert engine.events[:2] == [("add", 1), ("add", 2)]


def test_of_an_output_only_what_the_job_keeps_is_left() -> None:
    numbers = Job([Line(2, None), Line(3, None)], None, keep=lambda index, output: (index, output.num_cached_tokens))
    run(CountingEngine(), numbers)
    assert numbers.outputs == [(0, 2), (1, 3)]


def test_tokens_of_finished_lines_that_were_cached_are_counted_once() -> None:
    assert run(CountingEngine(), job(2, 3, under=1), job(4)).num_cached_tokens == 2 + 3 + 4


def test_a_request_that_vllm_does_not_take_costs_its_job_alone_and_no_slot() -> None:
    engine = CountingEngine()
    jobs = [job(3, -1, 2, under=1), job(2, under=2), job(-1), job(2, under=3)]
    run(engine, *jobs)
    for refused in (jobs[0], jobs[2]):
        assert isinstance(refused.error, MethodUnsupported)
        assert "a length below 0" in str(refused.error)
    assert lengths(jobs[0]) == [None] * 3, "what had been added is taken back"
    assert [lengths(jobs[place]) for place in (1, 3)] == [[2]] * 2
    assert engine.events[:2] == [("add", 1), ("remove", 1)]
    assert engine.num_steps == 2


def test_a_job_waits_for_a_slot_and_takes_the_first_that_is_free() -> None:
    engine = CountingEngine()
    jobs = [job(5, under=1), job(2, under=2), job(3, under=3), job(1, under=4)]
    run(engine, *jobs)
    assert [lengths(one) for one in jobs] == [[5], [2], [3], [1]]
    assert engine.most_loaded == 2
    assert engine.events[2:4] == [("remove", 2), ("add", 3)]
    assert engine.num_steps == 6, "the third ran beside the first"


def test_a_refused_adapter_costs_its_job_alone_and_no_slot() -> None:
    engine = CountingEngine(refused=(1, 3))
    jobs = [job(2, under=1), job(2, under=2), job(2, under=3), job(2, under=4), job(2)]
    run(engine, *jobs)
    for refused in (jobs[0], jobs[2]):
        assert isinstance(refused.error, AdapterRefused)
        assert "ValueError: a wrong shape" in str(refused.error)
        assert lengths(refused) == [None]
    assert [lengths(jobs[place]) for place in (1, 3, 4)] == [[2]] * 3
    assert engine.num_steps == 2


def test_jobs_without_lines_and_calls_without_jobs_end() -> None:
    engine = CountingEngine()
    run(engine)
    run(engine, job(under=1), job())
    assert engine.num_steps == 0


def test_a_budget_ends_what_is_unfinished_of_its_own_job() -> None:
    now = [0.0]

    def tick() -> None:
        now[0] += 1.0

    engine = CountingEngine(on_step=tick)
    short, long, free = job(2, 9, under=1, time_budget_s=3.0), job(6, under=2, time_budget_s=100.0), job(8)
    run(engine, short, long, free, clock=lambda: now[0])
    assert lengths(short) == [2, 3]
    assert short.cut == {1}
    assert (lengths(long), long.cut) == ([6], set())
    assert (lengths(free), free.cut) == ([8], set())
    assert engine.events[2] == ("remove", 1), "its slot is free at once"


def test_a_budget_begins_with_the_job_s_turn() -> None:
    now = [0.0]

    def tick() -> None:
        now[0] += 1.0

    first, second = job(5, under=1), job(3, under=2, time_budget_s=4.0)
    run(CountingEngine(on_step=tick), first, second, max_loras=1, clock=lambda: now[0])
    assert lengths(second) == [3]
    assert not second.cut


def test_a_budget_does_not_pay_for_loading_the_adapters_of_others() -> None:
    now = [0.0]

    def tick(seconds: float) -> None:
        now[0] += seconds

    engine = CountingEngine(on_load=lambda: tick(10.0), on_step=lambda: tick(1.0))
    hurried = job(3, under=1, time_budget_s=4.0)
    run(engine, hurried, job(3, under=2), clock=lambda: now[0])
    assert (lengths(hurried), hurried.cut) == ([3], set())


def test_a_budget_that_is_used_up_before_the_first_token_leaves_nothing() -> None:
    clock = iter([0.0, math.inf]).__next__
    engine = CountingEngine()
    engine.step = list  # type: ignore[method-assign] - still reading the prompt
    hurried = job(4, 4, time_budget_s=1.0)
    run(engine, hurried, clock=clock)
    assert lengths(hurried) == [None, None]
    assert hurried.cut == {0, 1}
