"""What depth-first searches are held against: every path there is, by plain forward passes."""

import math
from collections.abc import Sequence

import pytest
import torch

from arc_engine.base_models.loading import LoadedBase
from arc_engine.sampling.protocol import DepthFirst, Prompt, Samples, SamplingParameters
from tests.arc_engine.sampling.reference import STOP

ALPHABET = (STOP, 10, 20, 30)


@torch.no_grad()
def every_completion(
    loaded: LoadedBase, prompt: Prompt, *, alphabet: Sequence[int], max_new_tokens: int
) -> dict[tuple[int, ...], float]:
    """The log-probability of every path over the alphabet that the stop token ends, without cache, batch or search."""
    found: dict[tuple[int, ...], float] = {}
    paths: dict[tuple[int, ...], float] = {(): 0.0}
    for num_left in reversed(range(max_new_tokens)):
        ids = torch.tensor([[*prompt.ids, *path] for path in paths])
        logits = loaded.model(input_ids=ids, use_cache=False).logits[:, -1]
        following = zip(paths.items(), logits.float().log_softmax(-1).tolist(), strict=True)
        paths = {}
        for (path, total), log_probabilities in following:
            found[path] = total + log_probabilities[STOP]
            if num_left:
                paths |= {(*path, token): total + log_probabilities[token] for token in alphabet if token != STOP}
    return found


def threshold_for(num_found: int, completions: Sequence[dict[tuple[int, ...], float]]) -> float:
    """A probability that exactly so many of all these completions have, with a margin to the next."""
    log_probabilities = sorted((p for each in completions for p in each.values()), reverse=True)
    if num_found == len(log_probabilities):
        return math.exp(log_probabilities[-1] - 1)
    return math.exp((log_probabilities[num_found - 1] + log_probabilities[num_found]) / 2)


def depth_first(
    min_probability: float,
    *,
    max_new_tokens: int,
    allowed: Sequence[int] | None = None,
    max_nodes: int | None = None,
    time_budget_s: float | None = None,
) -> SamplingParameters:
    return SamplingParameters(
        DepthFirst(min_probability, max_nodes),
        max_new_tokens=max_new_tokens,
        stop_token_id=STOP,
        allowed_token_ids=None if allowed is None else tuple(allowed),
        time_budget_s=time_budget_s,
    )


def check_found(samples: Samples, every: dict[tuple[int, ...], float], *, min_probability: float) -> None:
    """Exactly those above the threshold, with their probabilities, likeliest first."""
    expected = {path for path, log_probability in every.items() if log_probability >= math.log(min_probability)}
    found = [completion.ids for completion in samples.completions]
    assert len(found) == len(set(found))
    assert set(found) == expected
    log_probabilities = [completion.log_probability for completion in samples.completions]
    assert log_probabilities == sorted(log_probabilities, reverse=True)
    for completion in samples.completions:
        assert completion.finished
        assert math.exp(completion.log_probability) == pytest.approx(math.exp(every[completion.ids]), abs=1e-4)
        assert completion.log_probability == pytest.approx(every[completion.ids], abs=1e-3)
