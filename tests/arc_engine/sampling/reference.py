"""What samplers are held against: plain transformers and PEFT, with adapters good and broken."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from arc_engine.errors import EngineError
from arc_engine.sampling.protocol import (
    AdapterFolder,
    Completion,
    Greedy,
    Nucleus,
    Prompt,
    Question,
    Sampler,
    SampleRequest,
    Samples,
    SamplingParameters,
    ScoreRequest,
)

STOP = 2  # <eos> of the tiny base
GREEDY = SamplingParameters(Greedy(), max_new_tokens=24, stop_token_id=STOP)
NUCLEUS = SamplingParameters(Nucleus(num_samples=3, temperature=0.8, top_p=0.9), max_new_tokens=24, stop_token_id=STOP)


def continued(
    sampler: Sampler,
    prompts: Sequence[Prompt],
    *,
    base: Path,
    adapter: AdapterFolder | None = None,
    parameters: SamplingParameters = GREEDY,
) -> tuple[Samples, ...]:
    """What the sampler makes of one request; raises the error of a refused one."""
    [found] = sampler.sample([SampleRequest(tuple(prompts), adapter, parameters)], base=base)
    if isinstance(found, EngineError):
        raise found
    return found


def scored(
    sampler: Sampler, questions: Sequence[Question], *, base: Path, adapter: AdapterFolder | None = None
) -> tuple[tuple[float, ...], ...]:
    """What the sampler makes of one request to score; raises the error of a refused one."""
    [found] = sampler.score([ScoreRequest(tuple(questions), adapter)], base=base)
    if isinstance(found, EngineError):
        raise found
    return found


def make_adapter(base: Path, folder: Path, *, rank: int, seed: int, name: str | None = None) -> AdapterFolder:
    """An adapter with random weights on all linear layers, strong enough to change what the base says."""
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        config = LoraConfig(
            task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules="all-linear", init_lora_weights=False
        )
        adapted = get_peft_model(model, config)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3 / rank**0.5)
    adapted.save_pretrained(folder)
    return AdapterFolder(name=name or folder.name, path=folder, rank=rank)


BAD_CONFIGS = {
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "other modules": {"target_modules": ["no_such_layer"]},
    "fewer modules": {"target_modules": ["q_proj"]},
    "no alpha": {"lora_alpha": None},
    "some layers": {"layers_to_transform": [0]},
    "excluded modules": {"exclude_modules": ["q_proj"]},
    "rank pattern": {"rank_pattern": {"q_proj": 2}},
    "alpha pattern": {"alpha_pattern": {"q_proj": 2}},
    "blocks": {"use_bdlora": {"nblocks": 2}},
}
BROKEN = (
    "corrupted weights",
    "truncated weights",
    "no weights",
    "no configuration",
    "no such folder",
    "other sizes",
    *BAD_CONFIGS,
)
"""The ways in which adapters are broken; no backend takes any of them."""


def broken(adapter: AdapterFolder, folder: Path, how: str) -> AdapterFolder:
    """A copy of the adapter in `folder`, broken as `how` says."""
    shutil.copytree(adapter.path, folder)
    config, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    match how:
        case "corrupted weights":
            weights.write_bytes(b"\x08\0\0\0\0\0\0\0not json")
        case "truncated weights":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "no weights":
            weights.unlink()
        case "no configuration":
            config.unlink()
        case "no such folder":
            shutil.rmtree(folder)
        case "other sizes":
            tensors = load_file(weights)
            wide = {name: t.repeat(1, 2) if "lora_A" in name else t.repeat(2, 1) for name, t in tensors.items()}
            save_file(wide, weights)
        case _:
            config.write_text(json.dumps({**json.loads(config.read_text()), **BAD_CONFIGS[how]}))
    return dataclasses.replace(adapter, path=folder)


class Reference:
    """Plain transformers and PEFT, one prompt at a time."""

    def __init__(self, base: Path, adapter: AdapterFolder | None) -> None:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        self.model = (model if adapter is None else PeftModel.from_pretrained(model, str(adapter.path))).eval()

    def greedy(self, prompt: Prompt, *, max_new_tokens: int) -> tuple[int, ...]:
        """Generated tokens, stop token included."""
        ids = torch.tensor([prompt.ids])
        output = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=STOP,
            pad_token_id=0,
        )
        return tuple(output[0, ids.shape[1] :].tolist())

    @torch.no_grad()
    def greedy_among(self, allowed: Sequence[int], prompt: Prompt, *, max_new_tokens: int) -> tuple[int, ...]:
        """`greedy` where no other tokens than the allowed ones may be taken, without cache."""
        ids: list[int] = []
        while len(ids) < max_new_tokens and STOP not in ids:
            logits = self.model(input_ids=torch.tensor([[*prompt.ids, *ids]])).logits[0, -1]
            ids.append(max(allowed, key=lambda token: logits[token].item()))
        return tuple(ids)

    @torch.no_grad()
    def log_probability(self, prompt: Prompt, ids: tuple[int, ...]) -> float:
        """Of `ids` after the prompt, by one forward pass without cache."""
        logits = self.model(input_ids=torch.tensor([[*prompt.ids, *ids]])).logits[0, len(prompt.ids) - 1 : -1]
        return logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum().item()


def generated(completion: Completion) -> tuple[int, ...]:
    """Its tokens, stop token included."""
    return (*completion.ids, STOP) if completion.finished else completion.ids


def check_greedy(found: Sequence[Samples], prompts: Sequence[Prompt], plain: "Reference") -> None:
    """Token for token what transformers generates, with the log-probability of a plain forward pass."""
    for prompt, samples in zip(prompts, found, strict=True):
        [completion] = samples.completions
        assert not samples.cut
        assert generated(completion) == plain.greedy(prompt, max_new_tokens=24)
        expected = plain.log_probability(prompt, generated(completion))
        assert completion.log_probability == pytest.approx(expected, abs=1e-3)
