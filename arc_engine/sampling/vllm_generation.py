"""vLLM itself: adapters added before use, token ids in, token ids and log-probabilities out.

Imported in the engine process alone, once the environment is set.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch._dynamo.config
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform

from arc_engine.errors import AdapterRefused, TaskTooLong
from arc_engine.sampling.protocol import Completion, SamplingParameters
from arc_engine.sampling.wire import AdapterName, EngineOptions, Request

GIB: Final = 2**30


class Engine:
    """vLLM with what we need of it: adapters added before use, token ids in, token ids and log-probabilities out."""

    def __init__(self, options: EngineOptions) -> None:
        on_cpu = current_platform.is_cpu()
        if on_cpu:
            _prepare_cpu()
        kv_cache_gib = options.kv_cache_gib or (1 if on_cpu else 8)
        self._llm = LLM(
            model=options.base,
            dtype="float32" if on_cpu else "bfloat16",
            enforce_eager=on_cpu,
            skip_tokenizer_init=True,
            generation_config="vllm",  # the model's own sampling defaults are none of ours
            enable_lora=True,
            max_lora_rank=options.max_lora_rank,
            max_loras=1,  # vllm_cpu_lora counts on it
            max_num_seqs=options.max_num_seqs,
            max_model_len=-1,  # the model's own, or what the cache holds if that is less
            kv_cache_memory_bytes=int(kv_cache_gib * GIB),
            gpu_memory_utilization=0.1,  # only checked at start, against the free share; the line above sets the size
            disable_log_stats=True,
            use_tqdm_on_load=False,
            seed=0,
        )
        self.max_model_len: int = self._llm.llm_engine.model_config.max_model_len

    def warm_up(self) -> None:
        """A first request, which pays for what vLLM puts off until then."""
        parameters = SamplingParams(n=2, temperature=1.0, top_p=0.9, max_tokens=4, logprobs=0, seed=0, detokenize=False)
        self._llm.generate([{"prompt_token_ids": [0] * 8}], parameters, use_tqdm=False)

    def sample(self, request: Request) -> list[list[Completion]]:
        """Raises `TaskTooLong` and `AdapterRefused`, after both of which the engine is as good as before."""
        longest = max((len(prompt.ids) for prompt in request.prompts), default=0)
        if longest >= self.max_model_len:
            raise TaskTooLong(f"a prompt has {longest} tokens, the engine's context {self.max_model_len}")
        with self._loaded(request.adapter) as lora_request:
            outputs = self._llm.generate(
                [{"prompt_token_ids": list(prompt.ids)} for prompt in request.prompts],
                [_sampling_params(request.parameters, seed=prompt.seed) for prompt in request.prompts],
                lora_request=lora_request,
                use_tqdm=False,
            )
        stop = request.parameters.stop_token_id
        return [[_completion(found, stop_token_id=stop) for found in output.outputs] for output in outputs]

    @contextmanager
    def _loaded(self, adapter: AdapterName | None) -> Iterator[Any]:
        if adapter is None:
            yield None
            return
        lora_request = LoRARequest(adapter.name, adapter.number, adapter.path)
        engine = self._llm.llm_engine
        try:
            try:
                # `generate` would add it as well, but a refusal there ends the engine.
                engine.add_lora(lora_request)
            except Exception as error:
                raise AdapterRefused(f"adapter {adapter.name}: {type(error).__name__}: {error}") from error
            yield lora_request
        finally:
            engine.remove_lora(adapter.number)


def _prepare_cpu() -> None:
    from arc_engine.sampling import vllm_cpu_lora  # noqa: PLC0415 - of no use on a GPU

    vllm_cpu_lora.install()
    # enforce_eager leaves a few compiled functions, which cost the first request 20 s.
    torch._dynamo.config.disable = True  # noqa: SLF001 - its documented switch


def _sampling_params(parameters: SamplingParameters, *, seed: int) -> Any:  # noqa: ANN401 - vllm is untyped here
    return SamplingParams(
        n=parameters.num_samples,
        temperature=parameters.temperature,
        top_p=parameters.top_p,
        max_tokens=parameters.max_new_tokens,
        stop_token_ids=[] if parameters.stop_token_id is None else [parameters.stop_token_id],
        ignore_eos=True,  # our stop token is the only one
        logprobs=0,  # of the sampled token alone, before temperature and nucleus
        seed=seed,
        detokenize=False,
    )


def _completion(output: Any, *, stop_token_id: int | None) -> Completion:  # noqa: ANN401 - vllm is untyped here
    finished = output.finish_reason == "stop"
    ids = tuple(output.token_ids)
    if finished and ids[-1] == stop_token_id:
        ids = ids[:-1]
    return Completion(ids, output.cumulative_logprob, finished)
