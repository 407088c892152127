"""Greedy and nucleus decoding: left-padded batches, a token for every row at a time."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from arc_engine.base_models.loading import LoadedBase
from arc_engine.sampling.protocol import Completion, Greedy, Nucleus, Prompt, Samples, SamplingParameters
from arc_engine.sampling.torch_batches import BatchLimits, allowed_tokens, left_padded, num_new_tokens
from arc_engine.sampling.torch_cache import growing_cache


@dataclass(slots=True)
class _Row:
    """One completion in the making."""

    prompt: Prompt
    random: random.Random
    """Of its own, so that what is drawn does not depend on the rest of the batch."""
    num_left: int
    ids: list[int] = field(default_factory=list)
    log_probability: float = 0.0
    finished: bool = False

    @property
    def begun(self) -> bool:
        return self.finished or bool(self.ids)

    @property
    def goes_on(self) -> bool:
        return not self.finished and self.num_left > 0

    def take(self, token: int, log_probability: float, *, stop_token_id: int | None) -> None:
        """Appends a token."""
        self.log_probability += log_probability
        self.num_left -= 1
        self.finished = token == stop_token_id
        if not self.finished:
            self.ids.append(token)

    def completion(self) -> Completion:
        """What it has become."""
        return Completion(tuple(self.ids), self.log_probability, self.finished)


def decode(
    loaded: LoadedBase,
    prompts: Sequence[Prompt],
    parameters: SamplingParameters,
    *,
    method: Greedy | Nucleus,
    limits: BatchLimits,
    used_up: Callable[[], bool],
) -> tuple[Samples, ...]:
    """Completes every prompt, batch by batch; what goes on when the budget is `used_up` is cut.

    Raises `TaskTooLong` when a prompt fills the context.
    """
    num_samples = 1 if isinstance(method, Greedy) else method.num_samples
    rows = [
        _Row(
            prompt,
            random.Random(f"{prompt.seed}/{number}"),
            num_new_tokens(prompt, parameters, max_positions=loaded.max_positions),
        )
        for prompt in prompts
        for number in range(num_samples)
    ]
    for batch in limits.batches(rows, num_tokens=lambda row: len(row.prompt.ids) + row.num_left):
        _decode(loaded, batch, parameters, method=method, used_up=used_up)
    return tuple(_samples(rows[start : start + num_samples]) for start in range(0, len(rows), num_samples))


def _samples(rows: Sequence[_Row]) -> Samples:
    return Samples(tuple(row.completion() for row in rows if row.begun), cut=any(row.goes_on for row in rows))


def _decode(
    loaded: LoadedBase,
    rows: Sequence[_Row],
    parameters: SamplingParameters,
    *,
    method: Greedy | Nucleus,
    used_up: Callable[[], bool],
) -> None:
    """Completes the rows of one batch. Finished rows leave it."""
    ids, mask = left_padded([row.prompt.ids for row in rows], device=loaded.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)  # [rows, tokens]
    allowed = allowed_tokens(parameters, device=loaded.device)
    cache = growing_cache(loaded.model.config)
    active = list(rows)
    while active and not used_up():
        output = loaded.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        log_probabilities = output.logits[:, -1].float().log_softmax(-1)  # [rows, vocabulary]
        tokens = _choose(log_probabilities, active, method=method, allowed=allowed)  # [rows]
        taken = log_probabilities.gather(1, tokens[:, None])[:, 0].tolist()
        for row, token, log_probability in zip(active, tokens.tolist(), taken, strict=True):
            row.take(token, log_probability, stop_token_id=parameters.stop_token_id)
        staying = [i for i, row in enumerate(active) if row.goes_on]
        keep = torch.tensor(staying, dtype=torch.long, device=loaded.device)
        if len(staying) < len(active):
            active = [active[i] for i in staying]
            cache.batch_select_indices(keep)
        ids = tokens[keep, None]
        mask = torch.cat([mask[keep], mask.new_ones(len(active), 1)], dim=1)
        positions = positions[keep, -1:] + 1


def _choose(
    log_probabilities: Tensor, rows: Sequence[_Row], *, method: Greedy | Nucleus, allowed: Tensor | None
) -> Tensor:
    """The next token of every row, `[rows]`: one of the allowed ones."""
    considered = log_probabilities if allowed is None else log_probabilities[:, allowed]
    if isinstance(method, Greedy):
        places = considered.argmax(-1)
    else:
        draws = torch.tensor([[row.random.random()] for row in rows], dtype=torch.double, device=considered.device)
        places = _draw(considered, draws, method=method)
    return places if allowed is None else allowed[places]


def _draw(log_probabilities: Tensor, draws: Tensor, *, method: Nucleus) -> Tensor:
    """A place in the nucleus at the method's temperature per row, `[rows]`, by one number in [0, 1) each."""
    probabilities = (log_probabilities.double() / method.temperature).softmax(-1)
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    nucleus = ordered.where(before < method.top_p, 0.0)  # the likeliest token is always in it
    cumulative = nucleus.cumsum(-1)  # [rows, places]
    place = torch.searchsorted(cumulative, draws * cumulative[:, -1:], right=True)
    last = (nucleus > 0).sum(-1, keepdim=True) - 1
    places: Tensor = order.gather(1, place.minimum(last))[:, 0]
    return places
