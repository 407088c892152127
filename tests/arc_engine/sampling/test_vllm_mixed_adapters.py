"""What vLLM itself promises about adapters, without our engine around it: two of them in one batch do not mix.

Our engine holds one adapter at a time; packing the jobs of several adapters into one call will count on this. What such
a call must not do on a CPU is mix in prompts without an adapter: vLLM 0.32 answers those with its last slot's adapter.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from arc_engine.sampling.protocol import AdapterFolder, Completion, Prompt
from tests.arc_engine.sampling.reference import STOP, Reference, check_greedy

# One engine: a batch in which prompts alternate between two adapters, then every prompt by itself.
PROGRAM = """
import json, os, sys
os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1", VLLM_NO_USAGE_STATS="1")
import torch._dynamo.config
torch._dynamo.config.disable = True
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
job = json.load(sys.stdin)
llm = LLM(model=job["base"], dtype="float32", enforce_eager=True, skip_tokenizer_init=True, enable_lora=True,
          max_lora_rank=8, max_loras=2, max_model_len=256, kv_cache_memory_bytes=2**28, gpu_memory_utilization=0.1)
loras = [LoRARequest(f"adapter-{n}", n, path) for n, path in enumerate(job["adapters"], start=1)]
greedy = SamplingParams(temperature=0, max_tokens=24, stop_token_ids=[job["stop"]], ignore_eos=True, logprobs=0,
                        detokenize=False)
def run(prompts, requests):
    outputs = llm.generate([{"prompt_token_ids": ids} for ids in prompts], greedy, lora_request=requests)
    return [(list(o.outputs[0].token_ids), o.outputs[0].cumulative_logprob) for o in outputs]
chosen = [loras[n % 2] for n in range(len(job["prompts"]))]
mixed = run(job["prompts"], chosen)
alone = [run([ids], [lora])[0] for ids, lora in zip(job["prompts"], chosen)]
with open(job["report"], "w") as report:
    json.dump({"mixed": mixed, "alone": alone}, report)
"""


def test_two_adapters_in_one_batch_equal_single_runs_and_peft(
    tiny_base: Path,
    adapters: dict[int, AdapterFolder],
    prompts: list[Prompt],
    reference: Callable[[AdapterFolder | None], Reference],
    tmp_path: Path,
):
    job = {
        "base": str(tiny_base),
        "adapters": [str(adapters[4].path), str(adapters[8].path)],
        "prompts": [list(prompt.ids) for prompt in prompts],
        "stop": STOP,
        "report": str(tmp_path / "report.json"),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(job), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads((tmp_path / "report.json").read_text())

    for (mixed_ids, mixed_log_probability), (ids, log_probability) in zip(
        report["mixed"], report["alone"], strict=True
    ):
        assert mixed_ids == ids
        assert mixed_log_probability == pytest.approx(log_probability, abs=1e-3)
    for start, adapter in enumerate((adapters[4], adapters[8])):
        found = [[Completion(tuple(ids), log_p, finished=False)] for ids, log_p in report["mixed"][start::2]]
        check_greedy(found, prompts[start::2], reference(adapter))
