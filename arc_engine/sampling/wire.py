"""What the vLLM client and its engine process say to each other: one JSON object a line.

The engine's first line is `ready` or `error`; from then on every line of requests, `sample` or `score`, is answered by
one line: `results`, which has a result or an error per request, or `error` when all came to nothing.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias, TypeVar

from arc_engine.errors import AdapterRefused, EngineError, MethodUnsupported, SamplerFailed, TaskTooLong
from arc_engine.sampling.protocol import (
    Completion,
    Greedy,
    Method,
    Nucleus,
    Prompt,
    Question,
    Sampled,
    Samples,
    SamplingParameters,
    Scored,
)

ERRORS: Final[dict[str, type[EngineError]]] = {
    error.code: error for error in (AdapterRefused, TaskTooLong, MethodUnsupported, SamplerFailed)
}
"""The errors that travel; every other one arrives as `SamplerFailed`."""
METHODS: Final[dict[str, type[Method]]] = {"greedy": Greedy, "nucleus": Nucleus}
"""The methods that vLLM has; no others travel."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine process is started with. `kv_cache_gib` None: 1 on a CPU, 8 on a GPU."""

    base: str
    max_lora_rank: int
    max_loras: int
    max_num_seqs: int
    kv_cache_gib: float | None
    parent_pid: int

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "EngineOptions":
        """The inverse of `to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class AdapterName:
    """An adapter as the engine knows it: `name` and `number` are used for one request and never again."""

    name: str
    number: int
    path: str


@dataclass(frozen=True, slots=True)
class SampleJob:
    """Continue these prompts, with this adapter or with none."""

    prompts: tuple[Prompt, ...]
    adapter: AdapterName | None
    parameters: SamplingParameters


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """Say how likely the answers are, with this adapter or with none."""

    questions: tuple[Question, ...]
    adapter: AdapterName | None


Call: TypeAlias = tuple[Literal["sample"], tuple[SampleJob, ...]] | tuple[Literal["score"], tuple[ScoreJob, ...]]
"""All that the engine is asked for at once."""


def call_line(call: Call) -> str:
    """One line, with its end."""
    if call[0] == "sample":
        return _line({"sample": [_sample_fields(job) for job in call[1]]})
    return _line({"score": [_score_fields(job) for job in call[1]]})


def parse_call(line: str) -> Call:
    """The inverse of `call_line`."""
    fields = json.loads(line)
    if "sample" in fields:
        return "sample", tuple(_sample_job(job) for job in fields["sample"])
    return "score", tuple(_score_job(job) for job in fields["score"])


def ready_line(*, max_model_len: int, startup_s: float) -> str:
    """The engine's greeting: the longest sequence it takes, in tokens, and how long it took to start."""
    return _line({"ready": {"max_model_len": max_model_len, "startup_s": startup_s}})


def sampled_line(results: Sequence[Sampled], *, num_cached_tokens: int = 0) -> str:
    """The answer to a call to sample; so many prompt tokens were in the engine's prefix cache."""
    fields = [_result(found, lambda found: [_samples_fields(s) for s in found]) for found in results]
    return _line({"results": fields, "cached": num_cached_tokens})


def scored_line(results: Sequence[Scored]) -> str:
    """The answer to a call to score."""
    return _line({"results": [_result(found, lambda found: [_numbers(row) for row in found]) for found in results]})


def error_line(error: Exception) -> str:
    """The answer to a call, or the greeting, when it came to nothing."""
    return _line({"error": _error_fields(error)})


def parse_ready(line: str) -> dict[str, Any]:
    """What `ready_line` said; raises what `error_line` said, and `SamplerFailed` on anything else."""
    ready: dict[str, Any] = _reply(line, "ready")
    return ready


def parse_sampled(line: str, jobs: Sequence[SampleJob]) -> list[Sampled]:
    """What `sampled_line` said; raises what `error_line` said, and `SamplerFailed` on anything else."""

    def samples(job: SampleJob, fields: Any) -> tuple[Samples, ...]:  # noqa: ANN401 - JSON
        method = job.parameters.method
        num_samples = method.num_samples if isinstance(method, Nucleus) else 1
        found = tuple(_samples(fields_of_one) for fields_of_one in fields)
        if len(found) != len(job.prompts):
            raise SamplerFailed(f"the engine answered {len(found)} prompts of {len(job.prompts)}")
        for one in found:
            if len(one.completions) > num_samples or (len(one.completions) < num_samples and not one.cut):
                raise SamplerFailed(f"the engine gave {len(one.completions)} completions where {num_samples} were due")
        return found

    return _results(line, jobs, samples)


def parse_num_cached_tokens(line: str) -> int:
    """How many prompt tokens were in the prefix cache, of a line that `parse_sampled` takes."""
    num_cached_tokens: int = _reply(line, "cached")
    return num_cached_tokens


def parse_scored(line: str, jobs: Sequence[ScoreJob]) -> list[Scored]:
    """What `scored_line` said; raises what `error_line` said, and `SamplerFailed` on anything else."""

    def scores(job: ScoreJob, fields: Any) -> tuple[tuple[float, ...], ...]:  # noqa: ANN401 - JSON
        found = tuple(tuple(_number(score) for score in row) for row in fields)
        if [len(row) for row in found] != [len(question.answers) for question in job.questions]:
            raise SamplerFailed(f"the engine scored {[len(row) for row in found]} answers, which are not all")
        return found

    return _results(line, jobs, scores)


def _line(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"), allow_nan=False) + "\n"


def _sample_fields(job: SampleJob) -> dict[str, Any]:
    method = job.parameters.method
    [kind] = [name for name, of_this in METHODS.items() if isinstance(method, of_this)]
    return {
        "prompts": [[prompt.ids, prompt.seed] for prompt in job.prompts],
        "adapter": job.adapter and asdict(job.adapter),
        "parameters": {**asdict(job.parameters), "method": [kind, asdict(method)]},
    }


def _sample_job(fields: Mapping[str, Any]) -> SampleJob:
    parameters = fields["parameters"]
    kind, of_method = parameters["method"]
    allowed = parameters["allowed_token_ids"]
    return SampleJob(
        prompts=tuple(Prompt(tuple(ids), seed) for ids, seed in fields["prompts"]),
        adapter=fields["adapter"] and AdapterName(**fields["adapter"]),
        parameters=SamplingParameters(
            **{
                **parameters,
                "method": METHODS[kind](**of_method),
                "allowed_token_ids": None if allowed is None else tuple(allowed),
            }
        ),
    )


def _score_fields(job: ScoreJob) -> dict[str, Any]:
    return {
        "questions": [[question.ids, question.answers] for question in job.questions],
        "adapter": job.adapter and asdict(job.adapter),
    }


def _score_job(fields: Mapping[str, Any]) -> ScoreJob:
    return ScoreJob(
        questions=tuple(
            Question(tuple(ids), tuple(tuple(answer) for answer in answers)) for ids, answers in fields["questions"]
        ),
        adapter=fields["adapter"] and AdapterName(**fields["adapter"]),
    )


def _samples_fields(samples: Samples) -> dict[str, Any]:
    completions = [[c.ids, _finite(c.log_probability), c.finished] for c in samples.completions]
    return {"completions": completions, "cut": samples.cut}


def _samples(fields: Mapping[str, Any]) -> Samples:
    completions = tuple(Completion(tuple(ids), _number(log_p), done) for ids, log_p, done in fields["completions"])
    return Samples(completions, cut=fields["cut"])


def _numbers(values: Sequence[float]) -> list[float | None]:
    return [_finite(value) for value in values]


def _finite(value: float) -> float | None:
    """JSON has no -inf, nor NaN: what has no probability is null."""
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return -math.inf if value is None else float(value)


def _result(found: EngineError | T, fields: Callable[[T], Any]) -> dict[str, Any]:
    return {"error": _error_fields(found)} if isinstance(found, EngineError) else {"found": fields(found)}


def _error_fields(error: Exception) -> dict[str, str]:
    code = error.code if isinstance(error, EngineError) and error.code in ERRORS else SamplerFailed.code
    message = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
    return {"code": code, "message": message}


def _error(fields: Mapping[str, str]) -> EngineError:
    return ERRORS[fields["code"]](fields["message"])


def _results(line: str, jobs: Sequence[Any], parse: Callable[[Any, Any], T]) -> list[T | EngineError]:
    results = _reply(line, "results")
    if not isinstance(results, list) or len(results) != len(jobs):
        raise SamplerFailed(f"the engine answered {line[:200]!r} to {len(jobs)} requests")
    try:
        return [
            _error(result["error"]) if "error" in result else parse(job, result["found"])
            for job, result in zip(jobs, results, strict=True)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise SamplerFailed(f"the engine's results cannot be read: {line[:200]!r}") from error


def _reply(line: str, kind: str) -> Any:  # noqa: ANN401 - JSON
    try:
        fields = json.loads(line)
        if "error" in fields:
            raise _error(fields["error"])
        return fields[kind]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, EngineError):
            raise
        raise SamplerFailed(f"the engine answered {line[:200]!r} where {kind} was due") from error
