"""vLLM against torch: the same prompts under the same adapters, greedy, with one thread each."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from arc_engine.datasets.sources import TaskJson
from arc_engine.errors import EngineError
from arc_engine.sampling.backends import make_sampler
from arc_engine.sampling.protocol import Sampled, Sampler, SampleRequest
from arc_engine.sampling.torch_sampler import TorchSampler
from arc_engine.tasks import parse_task
from benchmarks.remembering import RememberingSampler
from benchmarks.sampling_plan import GREEDY, Plan
from benchmarks.sampling_task import adapted, answered, loaded_base, num_equal


def compare_backends(tasks: Mapping[str, TaskJson], *, plan: Plan, folder: Path) -> dict[str, Any] | None:
    """Tokens per second of both backends, job by job and all jobs in one call; None without vLLM or without tasks.

    Jobs are the tasks' greedy requests as the service makes them. vLLM's start-up, its first request included, is
    measured apart: a worker pays it once.
    """
    if find_spec("vllm") is None or not tasks:
        return None
    with _one_thread():
        return _compared(tasks, plan=plan, folder=folder)


@contextmanager
def _one_thread() -> Iterator[None]:
    """What vLLM's engine has by default, because it stands next to a trainer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _compared(tasks: Mapping[str, TaskJson], *, plan: Plan, folder: Path) -> dict[str, Any]:
    ours = RememberingSampler(TorchSampler(load=loaded_base))
    requests = _requests(tasks, sampler=ours, plan=plan, folder=folder)
    torch_s = ours.sample_s
    packed_s, packed = _timed(TorchSampler(load=loaded_base), requests, plan=plan)
    vllm = make_sampler("vllm", base=plan.base, log_file=folder / "vllm.log")
    try:
        startup_s, _ = _timed(vllm, requests[:1], plan=plan)
        theirs = RememberingSampler(vllm)
        theirs.sample(requests, base=plan.base)
        vllm_packed_s, vllm_packed = _timed(vllm, requests, plan=plan)
    finally:
        vllm.close()
    truth = ours.samples
    return {
        "num_tasks": len(requests),
        "num_prompts": sum(len(request.prompts) for request in requests),
        "threads": 1,
        "vllm_startup_s": round(startup_s, 1),
        "rows": [
            _row("torch", "one job", truth, seconds=torch_s, reference=truth),
            _row("torch", "all jobs", packed, seconds=packed_s, reference=truth),
            _row("vllm", "one job", theirs.samples, seconds=theirs.sample_s, reference=truth),
            _row("vllm", "all jobs", vllm_packed, seconds=vllm_packed_s, reference=truth),
        ],
    }


def _requests(
    tasks: Mapping[str, TaskJson], *, sampler: RememberingSampler, plan: Plan, folder: Path
) -> list[SampleRequest]:
    """The requests that answering the tasks sends; the sampler has answered them then."""
    for task_id, task_json in tasks.items():
        task, _ = parse_task(task_json)
        adapter, _ = adapted(task_id, task, plan=plan, folder=folder)
        answered(task, settings=plan.settings(GREEDY, "vote"), sampler=sampler, adapter=adapter, plan=plan)
    return list(sampler.samples)


def _timed(
    sampler: Sampler, requests: Sequence[SampleRequest], *, plan: Plan
) -> tuple[float, dict[SampleRequest, Sampled]]:
    """Asks all requests in one call."""
    begun = time.perf_counter()
    found = sampler.sample(requests, base=plan.base)
    return time.perf_counter() - begun, dict(zip(requests, found, strict=True))


def _row(
    backend: str,
    per_call: str,
    found: Mapping[SampleRequest, Sampled],
    *,
    seconds: float,
    reference: Mapping[SampleRequest, Sampled],
) -> dict[str, Any]:
    equal, num_prompts = num_equal(reference, found)
    tokens = sum(
        len(completion.ids) + completion.finished
        for sampled in found.values()
        if not isinstance(sampled, EngineError)
        for samples in sampled
        for completion in samples.completions
    )
    return {
        "backend": backend,
        "per_call": per_call,
        "num_refused": sum(isinstance(sampled, EngineError) for sampled in found.values()),
        "num_tokens": tokens,
        "seconds": round(seconds, 2),
        "tokens_per_s": round(tokens / seconds, 1),
        "equal_outputs": round(equal / num_prompts, 4) if num_prompts else 0.0,
    }
