"""A task through the whole benchmark, on a tiny real model."""

import math

import pytest

from arc_engine.errors import AdapterRefused, Diverged, SamplerFailed
from arc_engine.sampling.protocol import Completion, DepthFirst, Samples
from arc_engine.sampling.torch_sampler import TorchSampler
from benchmarks import sampling_task
from benchmarks.sampling_plan import ATTEMPT, DFS, GREEDY, SAMPLERS, SELECTORS, Plan
from benchmarks.sampling_summary import any_token, figures, rows
from benchmarks.sampling_task import measure_task, num_equal

PAIR = {"input": [[1, 2]], "output": [[2, 1]]}
TASK = {"train": [PAIR, {"input": [[3, 4]], "output": [[4, 3]]}], "test": [{"input": [[5, 6]], "output": [[6, 5]]}]}


@pytest.fixture
def plan(tiny_base):
    return Plan(base=tiny_base, steps=2, num_views=2, max_nodes=50, max_new_tokens=5, seed=0)


def test_a_task_is_answered_by_every_pair_and_not_measured_again(plan, tmp_path, monkeypatch):
    record = measure_task("swap", TASK, plan=plan, folder=tmp_path)
    assert list(record["samplers"]) == list(SAMPLERS)
    for sampler in SAMPLERS:
        measured = record["samplers"][sampler]
        assert measured["error"] is None
        assert list(measured["selectors"]) == list(SELECTORS)
        assert 0 <= measured["refused"] <= 1
        kept = [attempt for one in measured["selectors"].values() for tried in one["attempts"] for attempt in tried]
        assert all(len(attempt) == len(ATTEMPT) for attempt in kept)
    assert record["samplers"][GREEDY]["completions"] == 2
    assert record["any_token"]["num_prompts"] == 2
    assert len(rows([record])) == len(SAMPLERS) * len(SELECTORS)
    assert any_token([record])["num_tasks"] == figures([record])["num_tasks"] == 1

    monkeypatch.setattr(sampling_task, "adapt", None)
    monkeypatch.setattr(sampling_task, "TorchSampler", None)
    assert measure_task("swap", TASK, plan=plan, folder=tmp_path) == record


def test_an_interrupted_task_keeps_its_adapter(plan, tmp_path, monkeypatch):
    def interrupted(self, requests, *, base):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TorchSampler, "sample", interrupted)
        with pytest.raises(KeyboardInterrupt):
            measure_task("swap", TASK, plan=plan, folder=tmp_path)
    monkeypatch.setattr(sampling_task, "adapt", None)
    assert measure_task("swap", TASK, plan=plan, folder=tmp_path)["error"] is None


def test_a_task_that_cannot_be_adapted_to_is_recorded(plan, tmp_path, monkeypatch):
    def diverging(*_, **__):
        raise Diverged(3, loss=math.nan, grad_norm=1.0)

    monkeypatch.setattr(sampling_task, "adapt", diverging)
    record = measure_task("swap", TASK, plan=plan, folder=tmp_path)
    assert record == {"task_id": "swap", "error": "diverged"}
    assert {row["pass_at_2"] for row in rows([record])} == {0.0}


def test_a_sampler_that_cannot_answer_is_recorded_and_the_others_answer(plan, tmp_path, monkeypatch):
    sample = TorchSampler.sample

    def failing_to_search(self, requests, *, base):
        if any(isinstance(request.parameters.method, DepthFirst) for request in requests):
            return [SamplerFailed("out of memory") for _ in requests]
        return sample(self, requests, base=base)

    monkeypatch.setattr(TorchSampler, "sample", failing_to_search)
    record = measure_task("swap", TASK, plan=plan, folder=tmp_path)
    assert {name: measured["error"] for name, measured in record["samplers"].items()} == {
        name: "sampler_failed" if name in DFS else None for name in SAMPLERS
    }
    failed = [row for row in rows([record]) if row["sampler"] in DFS]
    assert all((row["num_failed"], row["pass_at_2"], row["unanswered"]) == (1, 0, 1) for row in failed)


def test_plans_with_other_settings_have_other_folders(plan, tiny_base):
    fewer = Plan(base=tiny_base, steps=2, num_views=1, max_nodes=50, max_new_tokens=5, seed=0)
    assert plan.digest() != fewer.digest()
    assert plan.digest() == Plan(tiny_base, 2, 2, 50, 5, 0).digest()


def test_samples_are_compared_prompt_by_prompt():
    def answers(*ids):
        return tuple(Samples((Completion((number,), -1.0, finished=True),)) for number in ids)

    first = {"a": answers(1, 2), "b": answers(3)}
    assert num_equal(first, first) == (3, 3)
    assert num_equal(first, {"a": answers(1, 9), "b": answers(3)}) == (2, 3)
    assert num_equal(first, {"a": AdapterRefused("no"), "b": answers(3)}) == (1, 1)
