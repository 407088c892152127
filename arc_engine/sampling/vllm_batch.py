"""The jobs of one call in vLLM together: adapters added before use and removed after, budgets kept, outputs collected.

vLLM itself is handed in and nothing of it imported, so that this can be tried without it.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from arc_engine.errors import AdapterRefused, EngineError, MethodUnsupported
from arc_engine.sampling.wire import AdapterName


class Steps(Protocol):
    """What is used of vLLM's `LLMEngine`."""

    def add_request(self, request_id: str, prompt: Any, params: Any, *, lora_request: Any) -> str: ...  # noqa: ANN401
    def step(self) -> Sequence[Any]: ...
    def abort_request(self, request_ids: list[str]) -> None: ...
    def add_lora(self, lora_request: Any) -> bool: ...  # noqa: ANN401
    def remove_lora(self, lora_id: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class Line:
    """One sequence to be continued: a prompt and its parameters, as vLLM takes them."""

    prompt: Any
    params: Any


def _completion(index: int, output: Any) -> Any:  # noqa: ANN401, ARG001 - vllm is untyped here
    return output.outputs[0]


@dataclass(slots=True)
class Job:
    """Lines under one adapter or none, and what becomes of them.

    `outputs` has of every line what `keep` made of its number and vLLM's last `RequestOutput`: its `CompletionOutput`
    unless told otherwise; None where vLLM gave none before the budget ended. `error` says why none was tried.
    """

    lines: Sequence[Line]
    adapter: AdapterName | None
    time_budget_s: float | None = None
    keep: Callable[[int, Any], Any] = _completion
    outputs: list[Any] = field(init=False)
    cut: set[int] = field(init=False, default_factory=set)
    error: EngineError | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.outputs = [None] * len(self.lines)


@dataclass(slots=True)
class _Running:
    job: Job
    unfinished: dict[str, int]
    ends_at: float | None = None


class Batch:
    """Jobs in vLLM, as many at a time as it has slots for adapters.

    vLLM can hold back requests whose adapter has no slot, and reads an adapter that fell out of its cache again, in the
    middle of a step, where a failure is its end. Here no adapter is used that is not in a slot: a job waits until one
    is free, and frees its own as soon as it is over.

    `num_cached_tokens` counts the prompt tokens that finished lines had from the prefix cache. `invalid` are the errors
    with which vLLM refuses a request for what is in it.
    """

    _request_ids: Final = itertools.count()

    def __init__(
        self,
        engine: Steps,
        *,
        max_loras: int,
        lora_request: Callable[[str, int, str], Any],
        invalid: tuple[type[Exception], ...] = (ValueError,),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._max_loras = max_loras
        self._lora_request = lora_request
        self._invalid = invalid
        self._clock = clock
        self._running: list[_Running] = []
        self.num_cached_tokens = 0

    def run(self, jobs: Sequence[Job]) -> None:
        """Fills in the outputs of all jobs. A job's budget counts from the first step that it takes part in."""
        waiting = deque(jobs)
        while waiting or self._running:
            while waiting and self._has_room_for(waiting[0]):
                self._admit(waiting.popleft())
            if any(running.unfinished for running in self._running):
                self._start_clocks()
                self._step()
            now = self._clock()
            for running in list(self._running):
                if running.ends_at is not None and now >= running.ends_at:
                    self._cut(running)
                if not running.unfinished:
                    self._end(running)

    def _has_room_for(self, job: Job) -> bool:
        num_loaded = sum(running.job.adapter is not None for running in self._running)
        return job.adapter is None or num_loaded < self._max_loras

    def _admit(self, job: Job) -> None:
        lora_request = None
        if job.adapter is not None:
            lora_request = self._lora_request(job.adapter.name, job.adapter.number, job.adapter.path)
            try:
                # A request would add it as well, but a refusal there ends the engine.
                self._engine.add_lora(lora_request)
            except Exception as error:  # noqa: BLE001 - the job's own
                job.error = AdapterRefused(f"adapter {job.adapter.name}: {type(error).__name__}: {error}")
                self._engine.remove_lora(job.adapter.number)
                return
        running = _Running(job, {})
        self._running.append(running)
        try:
            for index, line in enumerate(job.lines):
                request_id = str(next(self._request_ids))
                self._engine.add_request(request_id, line.prompt, line.params, lora_request=lora_request)
                running.unfinished[request_id] = index
        except self._invalid as error:  # vLLM looks at a request before it takes it in
            job.error = MethodUnsupported(f"vLLM does not take this request: {error}")
            self._engine.abort_request(list(running.unfinished))
            self._end(running)

    def _start_clocks(self) -> None:
        now = self._clock()
        for running in self._running:
            if running.ends_at is None and running.job.time_budget_s is not None:
                running.ends_at = now + running.job.time_budget_s

    def _step(self) -> None:
        owners = {request_id: running for running in self._running for request_id in running.unfinished}
        for output in self._engine.step():
            running = owners[output.request_id]
            index = running.unfinished[output.request_id]
            running.job.outputs[index] = running.job.keep(index, output)
            if output.finished:
                self.num_cached_tokens += output.num_cached_tokens or 0
                del running.unfinished[output.request_id]

    def _cut(self, running: _Running) -> None:
        if running.unfinished:
            self._engine.abort_request(list(running.unfinished))
            running.job.cut |= set(running.unfinished.values())
            running.unfinished.clear()

    def _end(self, running: _Running) -> None:
        self._running.remove(running)
        if running.job.adapter is not None:
            self._engine.remove_lora(running.job.adapter.number)
