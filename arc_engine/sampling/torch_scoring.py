"""The log-probabilities of given answers: a prompt is computed once, its answers as right-padded batches after it."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from arc_engine.base_models.loading import LoadedBase
from arc_engine.sampling.protocol import Question
from arc_engine.sampling.torch_batches import BatchLimits, right_padded


def score(
    loaded: LoadedBase, questions: Sequence[Question], *, limits: BatchLimits, go_on: Callable[[], object]
) -> tuple[tuple[float, ...], ...]:
    """Log-probabilities, question by question; `-inf` for an answer that the context has no room for.

    `go_on` is called between batches and may raise to end the work.
    """
    return tuple(_score(loaded, question, limits=limits, go_on=go_on) for question in questions)


def _score(
    loaded: LoadedBase, question: Question, *, limits: BatchLimits, go_on: Callable[[], object]
) -> tuple[float, ...]:
    answers, length = question.answers, len(question.ids)
    scores = [-math.inf] * len(answers)
    fitting = [i for i, answer in enumerate(answers) if length + len(answer) <= loaded.max_positions]
    if not fitting:
        return tuple(scores)
    # The prompt's last token says what the first answer token is worth, so it goes with the answers.
    *prefix, last = question.ids
    prompt_cache = DynamicCache(config=loaded.model.config)
    if prefix:
        loaded.model.get_decoder()(
            input_ids=right_padded([prefix], device=loaded.device), past_key_values=prompt_cache, use_cache=True
        )
    for batch in limits.batches(fitting, num_tokens=lambda i: length + len(answers[i])):
        go_on()
        cache = copy.deepcopy(prompt_cache)
        cache.batch_repeat_interleave(len(batch))
        found = _score_batch(loaded, last, [answers[i] for i in batch], cache=cache)
        for i, log_probability in zip(batch, found, strict=True):
            scores[i] = log_probability
    return tuple(scores)


def _score_batch(
    loaded: LoadedBase,
    last: int,
    answers: Sequence[tuple[int, ...]],
    *,
    cache: Any,  # noqa: ANN401 - transformers is untyped
) -> list[float]:
    """Log-probability of every answer after a prompt that ends in `last` and is in the cache but for that."""
    ids = right_padded([(last, *answer[:-1]) for answer in answers], device=loaded.device)
    hidden = loaded.model.get_decoder()(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
    # An answer at a time: logits of a whole batch would be the largest tensor by far.
    sums = [_log_probability(loaded, states, answer) for states, answer in zip(hidden, answers, strict=True)]
    found: list[float] = torch.stack(sums).tolist()
    return found


def _log_probability(loaded: LoadedBase, states: Tensor, answer: tuple[int, ...]) -> Tensor:
    """Of one answer; `states` is `[tokens, width]`, padding included."""
    logits: Tensor = loaded.model.get_output_embeddings()(states[: len(answer)])  # [answer, vocabulary]
    targets = torch.tensor(answer, dtype=torch.long, device=logits.device)
    return logits.float().log_softmax(-1).gather(1, targets[:, None]).double().sum()
