"""A real tiny model adapted to, and asked in, a conversation."""

import shutil
from pathlib import Path

import pytest

from arc_engine.adaptation.adapt import adapt
from arc_engine.base_models.loading import load_base
from arc_engine.errors import PromptUnsupported
from arc_engine.sampling.protocol import AdapterFolder
from arc_engine.sampling.torch_sampler import TorchSampler
from arc_engine.settings import AdaptationSettings, PromptSettings, SolveSettings
from arc_engine.solving import Assignment, answer
from arc_engine.tasks import Pair, Task
from tests.fixtures.chat_tokenizers import INSTRUCTIONS, chat_tokenizer

TASK = Task(train=tuple(Pair(((colour,),), ((7, 8),)) for colour in (1, 2, 3)), test=(((4,),),))
CHAT = PromptSettings(version="chat")
PLAIN = {"dihedral": False, "colours": False}
ADAPTATION = AdaptationSettings(max_steps=30, batch_size=2, learning_rate=0.005, lora_rank=8, augmentation=PLAIN)


def test_an_adapted_model_answers_in_a_conversation_and_ends_its_answer(tiny_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "conversing"
    shutil.copytree(tiny_base, folder)
    tokenizer = chat_tokenizer(INSTRUCTIONS)
    tokenizer.save_pretrained(folder)
    adapter = adapt(
        load_base(folder, device="cpu"), [TASK], settings=ADAPTATION, prompt=CHAT, observe=lambda step: None
    ).adapter
    adapter.save(tmp_path / "adapter")
    settings = SolveSettings.model_validate(
        {"prompt": {"version": "chat"}, "sampling": {"num_views": 1, "max_new_tokens": 20}}
    )
    found = answer(
        Assignment(TASK, settings, AdapterFolder("adapted", tmp_path / "adapter", rank=adapter.rank)),
        sampler=TorchSampler(),
        tokenizer=tokenizer,
        base=folder,
        max_positions=4096,
    )
    assert found.refusals == {}
    assert found.attempts[0].attempt_1 == ((7, 8),)
    assert found.num_tokens == len("78 ") + 1  # with the space that this template writes before its end


def test_a_base_model_without_a_chat_template_is_refused_before_any_training(tiny_base: Path) -> None:
    steps: list[object] = []
    with pytest.raises(PromptUnsupported, match="chat template"):
        adapt(load_base(tiny_base, device="cpu"), [TASK], settings=ADAPTATION, prompt=CHAT, observe=steps.append)
    assert steps == []
