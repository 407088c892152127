"""One bench for all settings: its runs are shared."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from arc_engine.adaptation.adapt import adapt
from arc_engine.base_models.loading import load_base
from arc_engine.base_models.plain_lora import ADAPTER_CONFIG
from arc_engine.pretraining.tokenizer import VOCABULARY, save_tokenizer
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import parse_task
from jobs.database import make_engine, make_session_factory, transaction
from jobs.repositories import BaseModelRepository
from tests.fixtures.chat_tokenizers import CHATML, chat_tokenizer
from tests.fixtures.models import MAX_POSITIONS, SHAPE, save_model
from tests.settings.bench import TASKS, Bench


@pytest.fixture(scope="session")
def other_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base model with other weights."""
    config = LlamaConfig(**SHAPE, bos_token_id=VOCABULARY["<bos>"], tie_word_embeddings=True)
    folder = save_model(LlamaForCausalLM, config, tmp_path_factory.mktemp("models") / "other-llama", seed=1)
    save_tokenizer(folder, model_max_length=MAX_POSITIONS)
    return folder


@pytest.fixture(scope="session")
def short_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base model with a context that the bench's tasks do not fit into."""
    config = LlamaConfig(**{**SHAPE, "max_position_embeddings": 80}, bos_token_id=VOCABULARY["<bos>"])
    folder = save_model(LlamaForCausalLM, config, tmp_path_factory.mktemp("models") / "short-llama")
    save_tokenizer(folder, model_max_length=80)
    return folder


@pytest.fixture(scope="session")
def chat_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model whose tokenizer has a chat template."""
    tokenizer = chat_tokenizer(CHATML)
    config = LlamaConfig(**{**SHAPE, "vocab_size": len(tokenizer)}, bos_token_id=VOCABULARY["<bos>"])
    folder = save_model(LlamaForCausalLM, config, tmp_path_factory.mktemp("models") / "chat-llama")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def base_adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter for the tiny base model, of the rank and alpha that every run is given."""
    task, _ = parse_task(TASKS["c"])
    trained = adapt(
        load_base(tiny_base, device="cpu"),
        [task],
        settings=AdaptationSettings(max_steps=10, learning_rate=0.02, lora_rank=2, lora_alpha=4.0),
        prompt=PromptSettings(),
        observe=lambda step: None,
    )
    folder = tmp_path_factory.mktemp("adapters") / "base-adapter"
    trained.adapter.save(folder)
    return folder


@pytest.fixture(scope="session")
def bench(
    new_database: Callable[..., str],
    tiny_base: Path,
    other_base: Path,
    chat_base: Path,
    short_base: Path,
    base_adapter: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bench]:
    engine = make_engine(new_database())
    sessions = make_session_factory(engine)
    with transaction(sessions) as session:
        registry = BaseModelRepository(session)
        registry.register("tiny", str(tiny_base))
        registry.register("other", str(other_base))
        registry.register("chat", str(chat_base))
        registry.register("short", str(short_base))
        config = json.loads((base_adapter / ADAPTER_CONFIG).read_text())
        registry.register("adapted", str(tiny_base), adapter_source=str(base_adapter), adapter_config=config)
    yield Bench(sessions, tmp_path_factory.mktemp("bench"))
    engine.dispose()
