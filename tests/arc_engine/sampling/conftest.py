"""Adapters on disk, prompts, and transformers as the reference to compare with."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from arc_engine.sampling.protocol import AdapterFolder, Prompt

STOP = 2  # <eos> of the tiny base


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


@pytest.fixture(scope="session")
def new_adapter(tiny_base: Path) -> Callable[..., AdapterFolder]:
    """Makes adapters of the tiny base."""
    return functools.partial(make_adapter, tiny_base)


@pytest.fixture(scope="session")
def adapters(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, AdapterFolder]:
    """Two adapters by rank."""
    folder = tmp_path_factory.mktemp("adapters")
    return {rank: make_adapter(tiny_base, folder / f"rank-{rank}", rank=rank, seed=rank) for rank in (4, 8)}


@pytest.fixture(scope="session")
def prompts() -> list[Prompt]:
    """Prompts of different lengths."""
    generator = torch.Generator().manual_seed(0)
    lengths = (3, 40, 17, 64, 5, 29)
    return [
        Prompt((1, *torch.randint(5, 99, (length,), generator=generator).tolist()), seed=number)
        for number, length in enumerate(lengths)
    ]


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
    def log_probability(self, prompt: Prompt, ids: tuple[int, ...]) -> float:
        """Of `ids` after the prompt, by one forward pass without cache."""
        logits = self.model(input_ids=torch.tensor([[*prompt.ids, *ids]])).logits[0, len(prompt.ids) - 1 : -1]
        return logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum().item()


@pytest.fixture(scope="session")
def reference(tiny_base: Path) -> Callable[[AdapterFolder | None], Reference]:
    """The reference for the tiny base with an adapter or without."""
    return lambda adapter: Reference(tiny_base, adapter)
