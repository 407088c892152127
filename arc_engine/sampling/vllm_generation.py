"""vLLM itself: jobs in, completions or log-probabilities out.

Imported in the engine process alone, once the environment is set.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch._dynamo.config
from vllm import LLM, SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.inputs.engine import tokens_input
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind

from arc_engine.errors import EngineError, MethodUnsupported, TaskTooLong
from arc_engine.sampling.protocol import (
    Completion,
    Nucleus,
    Question,
    Sampled,
    Samples,
    SamplingParameters,
    Scored,
)
from arc_engine.sampling.vllm_batch import Batch, Job, Line
from arc_engine.sampling.weight_files import adaptable_layer_ends
from arc_engine.sampling.wire import EngineOptions, SampleJob, ScoreJob

GIB: Final = 2**30
INVALID: Final = (ValueError, VLLMValidationError)
"""With what vLLM refuses a request for what is in it, and is none the worse for it."""
CPU_BATCH_TOKENS: Final = 1024
"""Most tokens of a step on a CPU, if there are not more sequences. vLLM computes the logits of all tokens of a scored
prompt that are in a step: with a vocabulary of 150,000 these are 0.6 GB, and their log-probabilities as much again."""


class Engine:
    """vLLM with what we need of it: token ids in, token ids and log-probabilities out, many adapters in one batch."""

    def __init__(self, options: EngineOptions) -> None:
        on_cpu = current_platform.is_cpu()
        # vLLM's own operations for CPUs get batches wrong in which some prompts have no adapter.
        self._mixes = not on_cpu or _prepare_cpu()
        kv_cache_gib = options.kv_cache_gib or (1 if on_cpu else 8)
        self._llm = LLM(
            model=options.base,
            dtype="float32" if on_cpu else "bfloat16",
            enforce_eager=on_cpu,
            skip_tokenizer_init=True,
            generation_config="vllm",  # the model's own sampling defaults are none of ours
            enable_lora=True,
            max_lora_rank=options.max_lora_rank,
            max_loras=options.max_loras,
            # Without the output layer, which no adapter of ours changes: a slot for it costs its whole vocabulary, and
            # vLLM 0.32 takes the prompt tokens that are scored for sampled ones there.
            lora_target_modules=adaptable_layer_ends(Path(options.base)),
            max_num_seqs=options.max_num_seqs,
            max_num_batched_tokens=max(CPU_BATCH_TOKENS, options.max_num_seqs) if on_cpu else None,
            max_model_len=-1,  # the model's own, or what the cache holds if that is less
            enable_prefix_caching=True,  # by adapter name and path, which are never used twice
            kv_cache_memory_bytes=int(kv_cache_gib * GIB),
            gpu_memory_utilization=0.1,  # only checked at start, against the free share; the line above sets the size
            disable_log_stats=True,
            use_tqdm_on_load=False,
            seed=0,
        )
        self._engine = self._llm.llm_engine
        self._max_loras = options.max_loras
        self.max_model_len: int = self._engine.model_config.max_model_len
        self.num_cached_tokens = 0

    def warm_up(self) -> None:
        """A first request, which pays for what vLLM puts off until then."""
        parameters = SamplingParameters(Nucleus(2, temperature=1.0, top_p=0.9), max_new_tokens=4, stop_token_id=None)
        self._run([Job(_lines((0,) * 8, parameters, seed=0), None)])

    def sample(self, jobs: Sequence[SampleJob]) -> list[Sampled]:
        """Continues all prompts of all jobs together.

        `TaskTooLong`, `AdapterRefused`, and `MethodUnsupported` for values that vLLM does not take, stand in a job's
        place.
        """
        work = [self._work(job) for job in jobs]
        going = [one for one in work if isinstance(one, Job)]
        for together in [going] if self._mixes else [[one] for one in going]:
            self._run(together)
        return [
            one if isinstance(one, EngineError) else one.error or _samples(one, job)
            for job, one in zip(jobs, work, strict=True)
        ]

    def score(self, jobs: Sequence[ScoreJob]) -> list[Scored]:
        """The log-probability of every answer. Errors stand in a job's place.

        One job at a time: reading prompts is at full load with any number of them.
        """
        return [self._scored(job) for job in jobs]

    def _work(self, job: SampleJob) -> Job | EngineError:
        longest = max((len(prompt.ids) for prompt in job.prompts), default=0)
        if longest >= self.max_model_len:
            return TaskTooLong(f"a prompt has {longest} tokens, the engine's context {self.max_model_len}")
        try:
            lines = [line for prompt in job.prompts for line in _lines(prompt.ids, job.parameters, seed=prompt.seed)]
        except INVALID as error:
            return MethodUnsupported(f"vLLM does not take these parameters: {error}")
        return Job(lines, job.adapter, time_budget_s=job.parameters.time_budget_s)

    def _scored(self, job: ScoreJob) -> Scored:
        """Every answer is a request that computes its question anew, which is the cost of scoring here: see
        `_scoring_line`. What vLLM says of each token is summed up as soon as a request is over."""
        found = [
            [0.0 if self._has_room(question, answer) else -math.inf for answer in question.answers]
            for question in job.questions
        ]
        places = [
            (number, place)
            for number, question in enumerate(job.questions)
            for place, answer in enumerate(question.answers)
            if answer and self._has_room(question, answer)
        ]
        asked = [(job.questions[number], job.questions[number].answers[place]) for number, place in places]
        work = Job(
            [_scoring_line(question, answer) for question, answer in asked],
            job.adapter,
            keep=lambda index, output: _log_probability(*asked[index], output),
        )
        self._run([work])
        if work.error is not None:
            return work.error
        for (number, place), log_probability in zip(places, work.outputs, strict=True):
            found[number][place] = log_probability
        return tuple(map(tuple, found))

    def _has_room(self, question: Question, answer: Sequence[int]) -> bool:
        return len(question.ids) + len(answer) <= self.max_model_len

    def _run(self, jobs: Sequence[Job]) -> None:
        batch = Batch(self._engine, max_loras=self._max_loras, lora_request=LoRARequest, invalid=INVALID)
        batch.run(jobs)
        self.num_cached_tokens += batch.num_cached_tokens


def _prepare_cpu() -> bool:
    from arc_engine.sampling import vllm_cpu_lora  # noqa: PLC0415 - of no use on a GPU

    # enforce_eager leaves a few compiled functions, which cost the first request 20 s.
    torch._dynamo.config.disable = True  # noqa: SLF001 - its documented switch
    return vllm_cpu_lora.install()


def _lines(ids: Sequence[int], parameters: SamplingParameters, *, seed: int) -> list[Line]:
    """A line per completion, so that each can be cut by itself; with the seeds that vLLM's own `n` gives them.

    Raises one of `INVALID` for values that vLLM does not take.
    """
    num_samples, temperature, top_p = 1, 0.0, 1.0
    if isinstance(parameters.method, Nucleus):
        num_samples, temperature, top_p = (
            parameters.method.num_samples,
            parameters.method.temperature,
            parameters.method.top_p,
        )
    return [
        Line(
            tokens_input(list(ids)),
            SamplingParams(
                temperature=temperature,
                top_p=top_p,
                max_tokens=parameters.max_new_tokens,
                stop_token_ids=[] if parameters.stop_token_id is None else [parameters.stop_token_id],
                ignore_eos=True,  # our stop token is the only one
                allowed_token_ids=None if parameters.allowed_token_ids is None else list(parameters.allowed_token_ids),
                logprobs=0,  # of the sampled token alone, before temperature, nucleus and restriction
                flat_logprobs=True,
                seed=seed + number,
                detokenize=False,
                # Only a budget needs what there is before the end, which costs a little in every step.
                output_kind=RequestOutputKind.FINAL_ONLY
                if parameters.time_budget_s is None
                else RequestOutputKind.CUMULATIVE,
            ),
        )
        for number in range(num_samples)
    ]


def _samples(work: Job, job: SampleJob) -> tuple[Samples, ...]:
    each = len(work.outputs) // max(1, len(job.prompts))
    stop = job.parameters.stop_token_id
    return tuple(
        Samples(
            completions=tuple(
                _completion(output, stop_token_id=stop) for output in work.outputs[start : start + each] if output
            ),
            cut=any(start <= index < start + each for index in work.cut),
        )
        for start in range(0, len(work.outputs), each or 1)
    )


def _completion(output: Any, *, stop_token_id: int | None) -> Completion:  # noqa: ANN401 - vllm is untyped here
    finished = output.finish_reason == "stop"
    ids = tuple(output.token_ids)
    if finished and ids[-1] == stop_token_id:
        ids = ids[:-1]
    return Completion(ids, output.cumulative_logprob, finished)


def _scoring_line(question: Question, answer: Sequence[int]) -> Line:
    """The answer as part of the prompt, but for its last token, which is the only one that may be sampled.

    So the whole context can be filled, which vLLM does not allow a prompt to do. A request that wants the
    log-probabilities of its prompt reads nothing from the prefix cache: what is not computed has none. So the answers
    to one question do not share its computation, and there are logits, and numbers in Python, for all its tokens.
    """
    params = SamplingParams(
        temperature=0.0,
        max_tokens=1,
        allowed_token_ids=[answer[-1]],
        ignore_eos=True,
        logprobs=0,
        prompt_logprobs=0 if len(answer) > 1 else None,
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    return Line(tokens_input([*question.ids, *answer[:-1]]), params)


def _log_probability(question: Question, answer: Sequence[int], output: Any) -> float:  # noqa: ANN401 - vllm is untyped
    """Of the model's own distribution: `logprobs_mode` is raw_logprobs, which no restriction touches."""
    prompt_logprobs, start = output.prompt_logprobs, len(question.ids)
    inside = (prompt_logprobs[start + number][token].logprob for number, token in enumerate(answer[:-1]))
    return math.fsum((*inside, output.outputs[0].cumulative_logprob))
