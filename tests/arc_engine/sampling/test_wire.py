import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.errors import AdapterRefused, EngineError, MethodUnsupported, SamplerFailed, TaskTooLong
from arc_engine.sampling.protocol import (
    Completion,
    Greedy,
    Nucleus,
    Prompt,
    Question,
    Samples,
    SamplingParameters,
)
from arc_engine.sampling.wire import (
    AdapterName,
    EngineOptions,
    SampleJob,
    ScoreJob,
    call_line,
    error_line,
    parse_call,
    parse_num_cached_tokens,
    parse_ready,
    parse_sampled,
    parse_scored,
    ready_line,
    sampled_line,
    scored_line,
)

pytestmark = pytest.mark.fast

ids = st.lists(st.integers(0, 200_000), max_size=5).map(tuple)
seeds = st.integers(0, 2**31 - 1)
adapters = st.none() | st.builds(AdapterName, name=st.text(), number=st.integers(1), path=st.text(min_size=1))
methods = st.just(Greedy()) | st.builds(
    Nucleus, num_samples=st.integers(1, 3), temperature=st.floats(0.01, 2), top_p=st.floats(0.01, 1)
)
parameters = st.builds(
    SamplingParameters,
    method=methods,
    max_new_tokens=st.integers(1, 10_000),
    stop_token_id=st.none() | st.integers(0, 200_000),
    allowed_token_ids=st.none() | ids,
    time_budget_s=st.none() | st.floats(0.01, 1e5),
)
prompts = st.lists(st.builds(Prompt, ids=ids, seed=seeds), max_size=3).map(tuple)
sample_jobs = st.builds(SampleJob, prompts=prompts, adapter=adapters, parameters=parameters)
questions = st.lists(st.builds(Question, ids=ids, answers=st.lists(ids, max_size=3).map(tuple)), max_size=3).map(tuple)
score_jobs = st.builds(ScoreJob, questions=questions, adapter=adapters)
calls = st.tuples(st.just("sample"), st.lists(sample_jobs, max_size=3).map(tuple)) | st.tuples(
    st.just("score"), st.lists(score_jobs, max_size=3).map(tuple)
)
log_probabilities = st.floats(max_value=0, allow_nan=False)  # -inf is one of them
refusals = st.sampled_from([AdapterRefused("not this"), TaskTooLong("too long")])

GREEDY = SamplingParameters(Greedy(), max_new_tokens=1, stop_token_id=None)
SAMPLE_JOB = SampleJob((Prompt((1,), 0),), None, GREEDY)
SCORE_JOB = ScoreJob((Question((1,), ((2,), (3,))),), None)


def told(found: object) -> object:
    """Errors are equal if they say the same."""
    return (type(found), str(found)) if isinstance(found, EngineError) else found


@given(calls)
def test_a_call_arrives_as_it_was_sent(call: Any) -> None:
    line = call_line(call)
    assert line.index("\n") == len(line) - 1
    assert parse_call(line) == call


@given(st.lists(sample_jobs, max_size=3), st.data())
def test_samples_and_refusals_arrive_as_they_were_sent(jobs: list[SampleJob], data: st.DataObject) -> None:
    completion = st.builds(Completion, ids=ids, log_probability=log_probabilities, finished=st.booleans())

    def samples(job: SampleJob) -> Samples:
        method = job.parameters.method
        n = method.num_samples if isinstance(method, Nucleus) else 1
        cut = data.draw(st.booleans())
        return Samples(tuple(data.draw(st.lists(completion, min_size=0 if cut else n, max_size=n))), cut=cut)

    sent = [
        data.draw(refusals) if data.draw(st.booleans()) else tuple(samples(job) for _ in job.prompts) for job in jobs
    ]
    assert [*map(told, parse_sampled(sampled_line(sent), jobs))] == [*map(told, sent)]


@given(st.lists(score_jobs, max_size=3), st.data())
def test_scores_and_refusals_arrive_as_they_were_sent(jobs: list[ScoreJob], data: st.DataObject) -> None:
    sent = [
        data.draw(refusals)
        if data.draw(st.booleans())
        else tuple(tuple(data.draw(log_probabilities) for _ in question.answers) for question in job.questions)
        for job in jobs
    ]
    assert [*map(told, parse_scored(scored_line(sent), jobs))] == [*map(told, sent)]


@pytest.mark.parametrize("value", [-math.inf, math.nan, math.inf])
def test_what_is_no_probability_arrives_as_that_of_the_impossible(value: float) -> None:
    line = scored_line([((value, -1.5),)])
    assert "null" in line, "and as JSON that others read too"
    assert parse_scored(line, [SCORE_JOB]) == [((-math.inf, -1.5),)]
    sampled = sampled_line([(Samples((Completion((2,), value, finished=True),)),)])
    [(samples,)] = parse_sampled(sampled, [SAMPLE_JOB])
    assert samples.completions[0].log_probability == -math.inf


def test_options_arrive_as_they_were_sent() -> None:
    options = EngineOptions("/a b/ü", max_lora_rank=8, max_loras=3, max_num_seqs=4, kv_cache_gib=None, parent_pid=7)
    assert EngineOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (AdapterRefused("no"), AdapterRefused),
        (TaskTooLong("no"), TaskTooLong),
        (MethodUnsupported("no"), MethodUnsupported),
        (SamplerFailed("no"), SamplerFailed),
        (MemoryError("no"), SamplerFailed),
    ],
)
def test_errors_arrive_as_what_they_are(sent: Exception, received: type[EngineError]) -> None:
    with pytest.raises(received, match="no"):
        parse_ready(error_line(sent))


def test_what_was_cached_arrives() -> None:
    line = sampled_line([(Samples((Completion((2,), -1.0, finished=True),)),)], num_cached_tokens=256)
    assert parse_num_cached_tokens(line) == 256
    assert len(parse_sampled(line, [SAMPLE_JOB])) == 1
    with pytest.raises(SamplerFailed):
        parse_num_cached_tokens(scored_line([]))


def test_a_greeting_arrives() -> None:
    assert parse_ready(ready_line(max_model_len=10, startup_s=1.5)) == {"max_model_len": 10, "startup_s": 1.5}


NONSENSE = [
    "",
    "nonsense",
    "[]",
    "null",
    "{}",
    '{"error": {}}',
    '{"error": 1}',
    '{"results": 1}',
    '{"results": []}',
    '{"results": [1]}',
    '{"results": [{}]}',
    '{"results": [{"error": {"code": "unheard of", "message": ""}}]}',
    '{"results": [{"found": 1}]}',
    '{"results": [{"found": []}]}',
    '{"results": [{"found": [1]}]}',
    '{"results": [{"found": [{"completions": [], "cut": false}]}]}',
    '{"results": [{"found": [{"completions": [[[1], -1.0, true], [[1], -1.0, true]], "cut": true}]}]}',
    '{"results": [{"found": [["a", "b"]]}]}',
    '{"results": [{"found": [[-1.0]]}]}',
]


@pytest.mark.parametrize("line", NONSENSE)
@pytest.mark.parametrize(
    "parse",
    [lambda line: parse_sampled(line, [SAMPLE_JOB]), lambda line: parse_scored(line, [SCORE_JOB])],
    ids=["sampled", "scored"],
)
def test_anything_else_is_a_failure(parse: Callable[[str], object], line: str) -> None:
    with pytest.raises(SamplerFailed):
        parse(line)
