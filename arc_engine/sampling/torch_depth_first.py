"""Depth-first search of the likely completions: as the ARChitects (2024) do, with a batch of searches in lockstep.

A path of tokens only loses probability as it grows, so what is below the threshold is left with all that would follow.
One forward pass evaluates one node of every search. Going back is truncating a lane of the key-value cache.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from arc_engine.base_models.loading import LoadedBase
from arc_engine.sampling.protocol import Completion, DepthFirst, Prompt, Samples, SamplingParameters
from arc_engine.sampling.torch_batches import BatchLimits, allowed_tokens, num_new_tokens
from arc_engine.sampling.torch_lanes import Lanes, check_layers

ROUNDING: Final = 1e-3
"""By how much float32 on the device may be off in a log-probability; what it lets through is looked at once more."""


@dataclass(frozen=True, slots=True)
class _Node:
    """A token still to be evaluated: it follows the path's first `depth` tokens."""

    depth: int
    token: int
    log_probability: float
    """Of the path with it."""


@dataclass(slots=True)
class _Search:
    """The search of one prompt: where it stands, what is still to be evaluated, what it has found."""

    prompt: Prompt
    stop_token_id: int
    max_new_tokens: int
    max_nodes: int | None
    least: float
    """Log-probability below which a path is left."""
    open: list[_Node]
    """The next one last. Each has a probability of its own, so there are `1 / min_probability` at most."""
    path: list[int] = field(default_factory=list)
    """The prompt's last token and those generated."""
    log_probability: float = 0.0
    num_nodes: int = 0
    found: list[Completion] = field(default_factory=list)
    cut: bool = False

    @property
    def position(self) -> int:
        """Of the path's last token in the whole sequence."""
        return len(self.prompt.ids) + len(self.path) - 2

    def go_on(self) -> bool:
        """Steps to the next node; False where there is none, or no budget for one."""
        if not self.open:
            return False
        if self.num_nodes == self.max_nodes:
            self.cut = True
            return False
        node = self.open.pop()
        self.path[node.depth :] = [node.token]
        self.log_probability = node.log_probability
        self.num_nodes += 1
        return True

    def look_at(self, following: Iterable[tuple[int, float]]) -> None:
        """Takes in the tokens that may follow the path, with their log-probabilities."""
        nodes = []
        for token, log_probability in following:
            total = self.log_probability + log_probability
            if total < self.least:
                continue
            if token == self.stop_token_id:
                self.found.append(Completion(tuple(self.path[1:]), total, finished=True))
            elif len(self.path) < self.max_new_tokens:  # with room for the token and one that ends it
                nodes.append(_Node(len(self.path), token, total))
        self.open += sorted(nodes, key=lambda node: (node.log_probability, -node.token))

    def samples(self) -> Samples:
        """What it has found, likeliest first."""
        likeliest_first = sorted(self.found, key=lambda completion: (-completion.log_probability, completion.ids))
        return Samples(tuple(likeliest_first), self.cut)


def search_depth_first(
    loaded: LoadedBase,
    prompts: Sequence[Prompt],
    parameters: SamplingParameters,
    *,
    method: DepthFirst,
    limits: BatchLimits,
    used_up: Callable[[], bool],
) -> tuple[Samples, ...]:
    """Every completion of every prompt that is probable enough, as far as the budgets go.

    Raises `TaskTooLong` when a prompt fills the context, `BaseModelError` for models that cannot be searched, and
    `ValueError` without a stop token.
    """
    searches = [_begun(prompt, parameters, method=method, max_positions=loaded.max_positions) for prompt in prompts]
    if searches:
        longest = max(len(search.prompt.ids) + search.max_new_tokens for search in searches)
        check_layers(loaded, longest=longest)
        lanes = Lanes(loaded, num_lanes=min(len(searches), limits.num_rows(longest)), limits=limits)
        _run(searches, lanes=lanes, allowed=allowed_tokens(parameters, device=loaded.device), used_up=used_up)
    return tuple(search.samples() for search in searches)


def _begun(prompt: Prompt, parameters: SamplingParameters, *, method: DepthFirst, max_positions: int) -> _Search:
    if parameters.stop_token_id is None:
        raise ValueError("a depth-first search needs a stop token: nothing else ends a completion")
    return _Search(
        prompt,
        stop_token_id=parameters.stop_token_id,
        max_new_tokens=num_new_tokens(prompt, parameters, max_positions=max_positions),
        max_nodes=method.max_nodes,
        least=math.log(method.min_probability),
        open=[_Node(0, prompt.ids[-1], 0.0)],
    )


def _run(searches: Sequence[_Search], *, lanes: Lanes, allowed: Tensor | None, used_up: Callable[[], bool]) -> None:
    """Runs all searches to their end, as many at a time as there are lanes: search i of the active ones in lane i."""
    waiting = sorted(searches, key=lambda search: len(search.prompt.ids))
    active: list[_Search] = []
    while not used_up():
        beginning = [waiting.pop() for _ in range(min(lanes.num_lanes - len(active), len(waiting)))]
        lanes.begin([search.prompt.ids[:-1] for search in beginning], first=len(active))
        active += [search for search in beginning if search.go_on()]
        if not active:
            return
        log_probabilities = lanes.step([search.path[-1] for search in active], [search.position for search in active])
        following = _likely(log_probabilities, [search.least - search.log_probability for search in active], allowed)
        for search, tokens in zip(active, following, strict=True):
            search.look_at(tokens)
        _keep_going(active, lanes=lanes)
    for search in (*active, *waiting):
        search.cut = True


def _keep_going(active: list[_Search], *, lanes: Lanes) -> None:
    """Moves every search to its next node. Those that are over leave, and the last ones take their lanes."""
    for lane in reversed(range(len(active))):
        if active[lane].go_on():
            continue
        last = active.pop()
        if lane < len(active):
            active[lane] = last
            lanes.move(len(active), lane, num_tokens=last.position)


def _likely(log_probabilities: Tensor, least: Sequence[float], allowed: Tensor | None) -> list[list[tuple[int, float]]]:
    """Per search the allowed tokens of at least its log-probability, give or take rounding, with their own."""
    considered = log_probabilities if allowed is None else log_probabilities[:, allowed]
    floor = torch.tensor(least, device=considered.device)[:, None] - ROUNDING
    lanes, places = (considered >= floor).nonzero(as_tuple=True)
    tokens = places if allowed is None else allowed[places]
    found: list[list[tuple[int, float]]] = [[] for _ in least]
    for lane, token, log_probability in zip(
        lanes.tolist(), tokens.tolist(), considered[lanes, places].tolist(), strict=True
    ):
        found[lane].append((token, log_probability))
    return found
