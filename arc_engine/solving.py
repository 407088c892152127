"""The sampling half of a job in one place: a task under many views, their completions, the two attempts."""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arc_engine.candidates import Attempts, Candidate, Reading, Tally, collect
from arc_engine.encoders import Refusal
from arc_engine.errors import TaskTooLong
from arc_engine.grids import MAX_SIDE, NUM_COLOURS
from arc_engine.prompts.writer import PromptWriter
from arc_engine.sampling.protocol import AdapterFolder, Completion, Prompt, Sampler, SamplingParameters
from arc_engine.selection.vote import select
from arc_engine.settings import SamplingSettings, SolveSettings
from arc_engine.tasks import Task
from arc_engine.tokens import Tokenizer
from arc_engine.views import IDENTITY_COLOURS, View, ViewDistribution

__all__ = ["Answer", "Attempts", "answer", "draw_views", "tokens_of_largest_grid"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What sampling found: candidates (best first) and attempts per test input, and counts over all of them.

    `refusals` counts the completions that showed no grid by reason; `num_tokens` counts generated tokens.
    """

    candidates: tuple[tuple[Candidate, ...], ...]
    attempts: tuple[Attempts, ...]
    refusals: dict[str, int]
    num_completions: int
    num_tokens: int


def answer(
    task: Task,
    *,
    sampler: Sampler,
    tokenizer: Tokenizer,
    base: Path,
    adapter: AdapterFolder | None,
    settings: SolveSettings,
    max_positions: int,
) -> Answer:
    """Answers every test input of the task: all views of all inputs go to the sampler as one request.

    `max_positions` is the model's context in tokens. Raises `EncoderUnsupported` or `PromptUnsupported` when the
    tokenizer cannot write the prompt, `TaskTooLong` when a prompt leaves no room for an answer, and what the sampler
    raises.
    """
    writer = PromptWriter.of(settings.prompt, tokenizer)
    views = draw_views(settings.sampling.num_views, seed=settings.sampling.seed, num_pairs=len(task.train))
    prompts = _prompts(task, views, writer=writer, seed=settings.sampling.seed)
    room = max_positions - max(len(prompt.ids) for prompt in prompts)
    needed = writer.num_answer_tokens(((0,),))
    if room < needed:
        raise TaskTooLong(
            f"the longest prompt has {max_positions - room} tokens, which leaves {max(room, 0)} of the model's "
            f"{max_positions} for an answer; the smallest grid needs {needed}"
        )
    parameters = _parameters(settings.sampling, writer=writer)
    completions = sampler.sample(prompts, base=base, adapter=adapter, parameters=parameters)
    tallies = [
        _tally(completions[start : start + len(views)], views, writer=writer)
        for start in range(0, len(prompts), len(views))
    ]
    refusals: Counter[str] = Counter()
    for tally in tallies:
        refusals.update({reason.value: count for reason, count in tally.refusals.items()})
    return Answer(
        candidates=tuple(tally.candidates for tally in tallies),
        attempts=tuple(select(tally.candidates) for tally in tallies),
        refusals=dict(refusals),
        num_completions=sum(tally.num_completions for tally in tallies),
        num_tokens=sum(len(completion.ids) + completion.finished for found in completions for completion in found),
    )


def draw_views(num_views: int, *, seed: int, num_pairs: int) -> tuple[View, ...]:
    """The identity, then distinct random views; fewer views with the same seed are the first of these."""
    rng = random.Random(seed)
    views = {View(0, IDENTITY_COLOURS, tuple(range(num_pairs))): None}
    while len(views) < num_views:  # ends: there are 8 * 10! views at least
        views[ViewDistribution().draw(rng, num_pairs=num_pairs)] = None
    return tuple(views)


def _prompts(task: Task, views: Sequence[View], *, writer: PromptWriter, seed: int) -> list[Prompt]:
    """Test input by test input, the views of each in order."""
    shown = [view.apply_task(task) for view in views]
    return [
        Prompt(
            writer.question(seen.train, seen.test[index]).ids,
            seed=_prompt_seed(seed, test_index=index, view=number),
        )
        for index in range(len(task.test))
        for number, seen in enumerate(shown)
    ]


def _prompt_seed(seed: int, *, test_index: int, view: int) -> int:
    """A seed below 2**31 of each prompt's own, that does not depend on how many there are."""
    digest = hashlib.sha256(f"{seed}/{test_index}/{view}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def _parameters(settings: SamplingSettings, *, writer: PromptWriter) -> SamplingParameters:
    greedy = settings.method == "greedy"
    limit = settings.max_new_tokens or tokens_of_largest_grid(writer)
    return SamplingParameters(
        num_samples=settings.samples_per_view,
        temperature=0.0 if greedy else settings.temperature,
        top_p=1.0 if greedy else settings.top_p,
        max_new_tokens=limit,
        stop_token_id=writer.stop_token_id,
    )


def tokens_of_largest_grid(writer: PromptWriter) -> int:
    """How many tokens an answer of 30x30 cells takes, its end token included.

    Measured on a grid without runs of equal cells, which tokenizers that merge digits write the longest.
    """
    grid = tuple(tuple((3 * x + 7 * y) % NUM_COLOURS for x in range(MAX_SIDE)) for y in range(MAX_SIDE))
    return writer.num_answer_tokens(grid)


def _tally(completions: Sequence[Sequence[Completion]], views: Sequence[View], *, writer: PromptWriter) -> Tally:
    return collect(
        _read(completion, number, view, writer=writer)
        for number, (view, found) in enumerate(zip(views, completions, strict=True))
        for completion in found
    )


def _read(completion: Completion, number: int, view: View, *, writer: PromptWriter) -> Reading:
    if not completion.finished:
        return Reading(number, Refusal.UNFINISHED, completion.log_probability)
    outcome = writer.read(completion.ids)
    if not isinstance(outcome, Refusal):
        outcome = view.undo(outcome)
    return Reading(number, outcome, completion.log_probability)
