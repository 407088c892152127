import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc_engine.errors import AdapterRefused, EngineError, SamplerFailed, TaskTooLong
from arc_engine.sampling.protocol import Completion, Prompt, SamplingParameters
from arc_engine.sampling.wire import (
    AdapterName,
    EngineOptions,
    Request,
    completions_line,
    error_line,
    parse_completions,
    parse_ready,
    ready_line,
)

ids = st.lists(st.integers(0, 200_000)).map(tuple)
prompts = st.lists(st.builds(Prompt, ids=ids, seed=st.integers(0, 2**31 - 1)), max_size=4).map(tuple)
adapters = st.none() | st.builds(AdapterName, name=st.text(), number=st.integers(1), path=st.text(min_size=1))
parameters = st.builds(
    SamplingParameters,
    num_samples=st.integers(1, 3),
    temperature=st.floats(0.01, 5),
    top_p=st.floats(0.01, 1),
    max_new_tokens=st.integers(1, 10_000),
    stop_token_id=st.none() | st.integers(0, 200_000),
)
requests = st.builds(Request, prompts=prompts, adapter=adapters, parameters=parameters)


@given(requests)
def test_a_request_arrives_as_it_was_sent(request_: Request) -> None:
    line = request_.to_line()
    assert line.index("\n") == len(line) - 1
    assert Request.from_line(line) == request_


@given(requests, st.data())
def test_completions_arrive_as_they_were_sent(request_: Request, data: st.DataObject) -> None:
    completion = st.builds(
        Completion, ids=ids, log_probability=st.floats(max_value=0, allow_nan=False), finished=st.booleans()
    )
    n = request_.parameters.num_samples
    sent = [data.draw(st.lists(completion, min_size=n, max_size=n)) for _ in request_.prompts]
    assert parse_completions(completions_line(sent), request_) == sent


def test_options_arrive_as_they_were_sent() -> None:
    options = EngineOptions("/a b/ü", max_lora_rank=8, max_num_seqs=4, kv_cache_gib=None, parent_pid=7)
    assert EngineOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (AdapterRefused("no"), AdapterRefused),
        (TaskTooLong("no"), TaskTooLong),
        (SamplerFailed("no"), SamplerFailed),
        (MemoryError("no"), SamplerFailed),
    ],
)
def test_errors_arrive_as_what_they_are(sent: Exception, received: type[EngineError]) -> None:
    with pytest.raises(received, match="no"):
        parse_ready(error_line(sent))


def test_a_greeting_arrives() -> None:
    assert parse_ready(ready_line(max_model_len=10, startup_s=1.5)) == {"max_model_len": 10, "startup_s": 1.5}


@pytest.mark.parametrize(
    "line", ["", "nonsense", "[]", "null", "{}", '{"error": {}}', '{"error": 1}', '{"completions": 1}']
)
def test_anything_else_is_a_failure(line: str) -> None:
    request = Request((Prompt((1,), 0),), None, SamplingParameters(1, 0.0, 1.0, 1, None))
    with pytest.raises(SamplerFailed):
        parse_completions(line, request)


def test_a_log_probability_that_is_not_a_number_survives() -> None:
    request = Request((Prompt((1,), 0),), None, SamplingParameters(1, 0.0, 1.0, 1, None))
    [[completion]] = parse_completions(completions_line([[Completion((1,), math.nan, finished=True)]]), request)
    assert math.isnan(completion.log_probability)
