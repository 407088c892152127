"""The torch backend: batched decoding with a key-value cache, where vLLM is not installed."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import DynamicCache

from arc_engine.base_models.loading import LoadedBase, load_base
from arc_engine.base_models.plain_lora import ADAPTER_WEIGHTS
from arc_engine.errors import AdapterRefused, SamplerFailed, TaskTooLong
from arc_engine.sampling.acceptance import check_adapter
from arc_engine.sampling.protocol import AdapterFolder, Completion, Prompt, SamplingParameters

MAX_BATCH: Final = 32


@dataclass(slots=True)
class _Row:
    """One completion in the making."""

    prompt: Prompt
    random: random.Random
    """Of its own, so that what is drawn does not depend on the rest of the batch."""
    max_new_tokens: int
    ids: list[int] = field(default_factory=list)
    log_probability: float = 0.0
    finished: bool = False

    def take(self, token: int, log_probability: float, *, stop_token_id: int | None) -> bool:
        """Appends a token; whether the completion goes on."""
        self.log_probability += log_probability
        self.max_new_tokens -= 1
        self.finished = token == stop_token_id
        if not self.finished:
            self.ids.append(token)
        return not self.finished and self.max_new_tokens > 0

    def completion(self) -> Completion:
        """What it has become."""
        return Completion(tuple(self.ids), self.log_probability, self.finished)


class TorchSampler:
    """Samples in this process. Keeps the base model between requests; `load` says where it comes from."""

    def __init__(self, *, load: Callable[[Path], LoadedBase] = load_base, max_batch: int = MAX_BATCH) -> None:
        self._load = load
        self._max_batch = max_batch
        self._loaded: LoadedBase | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def start(self, *, lora_rank: int = 0) -> None:  # noqa: ARG002 - there is nothing to start
        return

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        base: Path,
        adapter: AdapterFolder | None,
        parameters: SamplingParameters,
    ) -> list[list[Completion]]:
        with self._lock:
            self._check_open()
            loaded = self._base(base)
            rows = [
                _row(prompt, number, parameters, max_positions=loaded.max_positions)
                for prompt in prompts
                for number in range(parameters.num_samples)
            ]
            with _adapted(loaded.model, adapter), torch.inference_mode():
                self._decode_all(loaded, rows, parameters)
        found = [row.completion() for row in rows]
        return [found[i : i + parameters.num_samples] for i in range(0, len(found), parameters.num_samples)]

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            self._loaded = None

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise SamplerFailed("the sampler is closed")

    def _base(self, folder: Path) -> LoadedBase:
        if self._loaded is None or self._loaded.folder != folder:
            self._loaded = None  # free the old weights before the new ones are loaded
            self._loaded = self._load(folder)
        return self._loaded

    def _decode_all(self, loaded: LoadedBase, rows: Sequence[_Row], parameters: SamplingParameters) -> None:
        by_length = sorted(rows, key=lambda row: len(row.prompt.ids))  # little padding within a batch
        for start in range(0, len(by_length), self._max_batch):
            batch = by_length[start : start + self._max_batch]
            for active in _decode(loaded.model, batch, parameters, device=loaded.device):
                self._check_open()
                del active


def _row(prompt: Prompt, number: int, parameters: SamplingParameters, *, max_positions: int) -> _Row:
    room = max_positions - len(prompt.ids)
    if room < 1:
        raise TaskTooLong(f"a prompt has {len(prompt.ids)} tokens, the model's context {max_positions}")
    return _Row(prompt, random.Random(f"{prompt.seed}/{number}"), min(parameters.max_new_tokens, room))


def _decode(model: Any, rows: Sequence[_Row], parameters: SamplingParameters, *, device: str) -> Iterator[int]:  # noqa: ANN401
    """Completes the rows, yielding how many are still going on after every token. Finished rows leave the batch."""
    ids, mask = _left_padded([row.prompt.ids for row in rows], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)  # [rows, tokens]
    cache = DynamicCache(config=model.config)
    active = list(rows)
    while True:
        output = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        log_probabilities = output.logits[:, -1].float().log_softmax(-1)  # [rows, vocabulary]
        tokens = _choose(log_probabilities, active, parameters)  # [rows]
        taken = log_probabilities.gather(1, tokens[:, None])[:, 0].tolist()
        going_on = [
            row.take(token, log_probability, stop_token_id=parameters.stop_token_id)
            for row, token, log_probability in zip(active, tokens.tolist(), taken, strict=True)
        ]
        keep = torch.tensor([i for i, goes_on in enumerate(going_on) if goes_on], dtype=torch.long, device=device)
        active = [row for row, goes_on in zip(active, going_on, strict=True) if goes_on]
        yield len(active)
        if not active:
            return
        if not all(going_on):
            cache.batch_select_indices(keep)
        ids = tokens[keep, None]
        mask = torch.cat([mask[keep], mask.new_ones(len(active), 1)], dim=1)
        positions = positions[keep, -1:] + 1


def _left_padded(prompts: Sequence[Sequence[int]], *, device: str) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both `[prompts, tokens]`; every prompt ends in the last column."""
    width = max(map(len, prompts))
    ids = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _choose(log_probabilities: Tensor, rows: Sequence[_Row], parameters: SamplingParameters) -> Tensor:
    """The next token of every row `[rows]`: the likeliest, or one drawn from the nucleus at the given temperature."""
    if parameters.greedy:
        return log_probabilities.argmax(-1)
    probabilities = (log_probabilities.double() / parameters.temperature).softmax(-1)
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    nucleus = ordered.where(before < parameters.top_p, 0.0)  # the likeliest token is always in it
    cumulative = nucleus.cumsum(-1)  # [rows, vocabulary]
    drawn = torch.tensor([[row.random.random()] for row in rows], dtype=torch.double, device=cumulative.device)
    place = torch.searchsorted(cumulative, drawn * cumulative[:, -1:], right=True)
    last = (nucleus > 0).sum(-1, keepdim=True) - 1
    tokens: Tensor = order.gather(1, place.minimum(last))[:, 0]
    return tokens


@contextmanager
def _adapted(model: Any, adapter: AdapterFolder | None) -> Iterator[None]:  # noqa: ANN401 - transformers is untyped
    """The model with the adapter in its layers, for as long as the context lasts."""
    if adapter is None:
        yield
        return
    check_adapter(adapter)
    try:
        config = LoraConfig.from_pretrained(str(adapter.path))
        tensors = load_file(adapter.path / ADAPTER_WEIGHTS)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise AdapterRefused(f"adapter {adapter.name} cannot be read: {error}") from error
    config.inference_mode = True
    try:
        peft_model = PeftModel(model, config, low_cpu_mem_usage=True)  # draws no random matrices
    except ValueError as error:
        raise AdapterRefused(f"adapter {adapter.name} does not fit the base model: {error}") from error
    try:
        _load(peft_model, tensors, adapter=adapter)
        peft_model.eval()
        yield
    finally:
        peft_model.unload()


def _load(peft_model: PeftModel, tensors: dict[str, Tensor], *, adapter: AdapterFolder) -> None:
    try:
        result = set_peft_model_state_dict(peft_model, tensors, low_cpu_mem_usage=True)
    except (RuntimeError, KeyError, ValueError) as error:
        raise AdapterRefused(f"adapter {adapter.name} does not fit the base model: {error}") from error
    missing = [name for name in result.missing_keys if "lora_" in name]
    if missing or result.unexpected_keys:
        raise AdapterRefused(
            f"adapter {adapter.name} does not fit the base model: missing {missing[:3]}, "
            f"unexpected {list(result.unexpected_keys)[:3]}"
        )
