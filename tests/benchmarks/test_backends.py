"""The comparison of backends, with torch in vLLM's place: what vLLM gives is tested where its sampler is."""

import pytest

from arc_engine.sampling.torch_sampler import TorchSampler
from benchmarks import backends
from benchmarks.backends import compare_backends
from benchmarks.sampling_plan import Plan
from benchmarks.sampling_task import loaded_base
from tests.benchmarks.test_sampling_task import TASK


@pytest.fixture
def plan(tiny_base):
    return Plan(base=tiny_base, steps=1, num_views=2, max_nodes=50, max_new_tokens=5, seed=0)


def test_both_backends_answer_the_same_requests(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda name: name)
    monkeypatch.setattr(backends, "make_sampler", lambda *_, **__: TorchSampler(load=loaded_base))
    measured = compare_backends({"one": TASK, "two": TASK}, plan=plan, folder=tmp_path)
    assert (measured["num_tasks"], measured["num_prompts"]) == (2, 4)
    assert [(row["backend"], row["per_call"]) for row in measured["rows"]] == [
        ("torch", "one job"),
        ("torch", "all jobs"),
        ("vllm", "one job"),
        ("vllm", "all jobs"),
    ]
    assert {row["equal_outputs"] for row in measured["rows"]} == {1.0}
    assert len({row["num_tokens"] for row in measured["rows"]}) == 1
    assert measured["rows"][0]["num_tokens"] > 0


def test_without_vllm_or_without_tasks_nothing_is_compared(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "make_sampler", None)
    assert compare_backends({}, plan=plan, folder=tmp_path) is None
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    assert compare_backends({"one": TASK}, plan=plan, folder=tmp_path) is None
