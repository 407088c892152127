"""The sampler of the bench: what it is asked is written down, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arc_engine.errors import EngineError
from arc_engine.sampling.protocol import Sampled, Sampler, SampleRequest, Samples, Scored, ScoreRequest
from tests.settings.facets import BySteps, Close, Stream


@dataclass(slots=True)
class Asked:
    """What a job asked of the sampler."""

    backend: str
    base: Path
    request: SampleRequest
    samples: tuple[Samples, ...]
    questions: ScoreRequest | None = None


class WatchedSampler:
    """The torch sampler in place of every backend: which one was asked for is written down, and nothing else depends
    on it. That vLLM and torch say the same is for the samplers' own tests."""

    def __init__(self, backend: str, sampler: Sampler, seen: list[Asked]) -> None:
        self._backend = backend
        self._sampler = sampler
        self._seen = seen

    def start(self, *, lora_rank: int = 0) -> None:
        self._sampler.start(lora_rank=lora_rank)

    def max_positions(self, *, base: Path, lora_rank: int = 0) -> int | None:
        return self._sampler.max_positions(base=base, lora_rank=lora_rank)

    def sample(self, requests: Sequence[SampleRequest], *, base: Path) -> list[Sampled]:
        found = self._sampler.sample(requests, base=base)
        for request, sampled in zip(requests, found, strict=True):
            assert not isinstance(sampled, EngineError), sampled
            self._seen.append(Asked(self._backend, base, request, sampled))
        return found

    def score(self, requests: Sequence[ScoreRequest], *, base: Path) -> list[Scored]:
        [self._seen[-1].questions] = requests  # the bench runs one job at a time
        return self._sampler.score(requests, base=base)

    def close(self) -> None:
        self._sampler.close()


def sampling_facets(asked: Asked) -> dict[str, Any]:
    """What a setting could change of it."""
    request, parameters = asked.request, asked.request.parameters
    # The first sample of every prompt, then the second one: more of either go on where fewer stop.
    most = max(len(samples.completions) for samples in asked.samples)
    found = [s.completions[i] for i in range(most) for s in asked.samples if i < len(s.completions)]
    return {
        "backend": asked.backend,
        "sampling_base": asked.base,
        "sampling_rank": request.adapter.rank if request.adapter else None,
        "num_prompts": len(request.prompts),
        "prompts": Stream(prompt.ids for prompt in request.prompts),
        "prompt_seeds": Stream(prompt.seed for prompt in request.prompts),
        "method": type(parameters.method).__name__,
        "num_samples": getattr(parameters.method, "num_samples", 1),
        "temperature": getattr(parameters.method, "temperature", 0.0),
        "top_p": getattr(parameters.method, "top_p", 1.0),
        "min_probability": getattr(parameters.method, "min_probability", None),
        "max_nodes": getattr(parameters.method, "max_nodes", None),
        "max_new_tokens": parameters.max_new_tokens,
        "stop_token": parameters.stop_token_id,
        "allowed_tokens": parameters.allowed_token_ids,
        "time_budget_s": parameters.time_budget_s,
        "cut": Stream(samples.cut for samples in asked.samples),
        "completions": Stream((completion.ids, completion.finished) for completion in found),
        "log_probabilities": Close(completion.log_probability for completion in found),
        **_question_facets(asked.questions),
    }


def _question_facets(asked: ScoreRequest | None) -> dict[str, Any]:
    questions = asked.questions if asked else ()
    return {
        "num_questions": len(questions),
        "answers_per_question": tuple({len(question.answers) for question in questions}),
        "questions": BySteps({number: question.ids for number, question in enumerate(questions)}),
        "scoring_rank": asked.adapter.rank if asked and asked.adapter else None,
    }
