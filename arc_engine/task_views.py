"""A task as the sampler sees it: under many views, every test input of each a prompt."""

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from arc_engine.candidates import Reading, Tally, collect
from arc_engine.encoders import Refusal
from arc_engine.errors import TaskTooLong
from arc_engine.grids import Grid, shape
from arc_engine.prompts.writer import PromptWriter
from arc_engine.sampling.protocol import Completion, Prompt, Question, Samples
from arc_engine.settings import WhenTooLong
from arc_engine.tasks import Pair, Task
from arc_engine.views import IDENTITY_COLOURS, View, ViewDistribution


def draw_views(num_views: int, *, seed: int, num_pairs: int) -> tuple[View, ...]:
    """The identity, then distinct random views; fewer views with the same seed are the first of these."""
    rng = random.Random(seed)
    views = {View(0, IDENTITY_COLOURS, tuple(range(num_pairs))): None}
    while len(views) < num_views:  # ends: there are 8 * 10! views at least
        views[ViewDistribution().draw(rng, num_pairs=num_pairs)] = None
    return tuple(views)


@dataclass(frozen=True, slots=True)
class TaskViews:
    """A task under `views`, written by `writer`. The task has as many pairs as the context has room for."""

    task: Task
    views: tuple[View, ...]
    writer: PromptWriter
    seed: int
    num_dropped_pairs: int = 0

    @classmethod
    def of(
        cls,
        task: Task,
        *,
        num_views: int,
        seed: int,
        writer: PromptWriter,
        max_positions: int,
        max_new_tokens: int | None = None,
        when_too_long: WhenTooLong = "drop_pairs",
    ) -> Self:
        """Draws the views. The same pairs are left out of all of them, so that every view shows the same task.

        Raises `TaskTooLong` when a prompt of `max_positions` tokens has no room for an answer, which is never longer
        than `max_new_tokens`, and nothing that may be left out helps.
        """
        fitting = task
        while (
            missing := _missing_tokens(
                fitting,
                num_views,
                seed=seed,
                writer=writer,
                max_positions=max_positions,
                max_new_tokens=max_new_tokens,
                when_too_long=when_too_long,
            )
        ) > 0:
            if when_too_long == "fail":
                raise TaskTooLong(
                    f"the task's prompt needs {max_positions + missing} tokens with the smallest answer, the model's "
                    f"context is {max_positions}"
                )
            if len(fitting.train) == 1:
                raise TaskTooLong(
                    f"the task's prompt needs {max_positions + missing} tokens with its answer, the model's context is "
                    f"{max_positions}; not even one pair fits"
                )
            fitting = Task(_without_longest(fitting.train, writer=writer), fitting.test)
        return cls(
            task=fitting,
            views=draw_views(num_views, seed=seed, num_pairs=len(fitting.train)),
            writer=writer,
            seed=seed,
            num_dropped_pairs=len(task.train) - len(fitting.train),
        )

    def first(self, num_views: int) -> Self:
        """The same task under the first `num_views` of the views."""
        return replace(self, views=self.views[:num_views])

    def prompts(self) -> tuple[Prompt, ...]:
        """Test input by test input, the views of each in order."""
        return tuple(
            Prompt(ids, seed=_prompt_seed(self.seed, test_index=index, view=number))
            for index in range(len(self.task.test))
            for number, ids in enumerate(self._questions(index))
        )

    def tallies(self, samples: Sequence[Samples]) -> tuple[Tally, ...]:
        """What the answers to `prompts()` come to, per test input."""
        num_views = len(self.views)
        return tuple(
            collect(self._readings(samples[start : start + num_views]), num_views=num_views)
            for start in range(0, len(samples), num_views)
        )

    def questions(self, tallies: Sequence[Tally], *, num_scored: int) -> tuple[Question, ...]:
        """Asks under every view how likely each test input's first `num_scored` candidates are.

        Test input by test input, the views of each in order; inputs without candidates are not asked about.
        """
        return tuple(
            Question(ids, tuple(self.writer.answer(view.apply(candidate.grid)) for candidate in scored))
            for index, tally in enumerate(tallies)
            if (scored := tally.candidates[:num_scored])
            for view, ids in zip(self.views, self._questions(index), strict=True)
        )

    def rescored(self, tallies: Sequence[Tally], scores: Sequence[Sequence[float]]) -> tuple[Tally, ...]:
        """The tallies with the answers to `questions()` as their candidates' `view_scores`; NaN becomes -inf."""
        by_view = iter(scores)
        return tuple(
            self._with_scores(tally, by_view=[next(by_view) for _ in self.views]) if tally.candidates else tally
            for tally in tallies
        )

    def _questions(self, index: int) -> list[tuple[int, ...]]:
        shown = [view.apply_task(self.task) for view in self.views]
        return [self.writer.question(seen.train, seen.test[index]).ids for seen in shown]

    @staticmethod
    def _with_scores(tally: Tally, *, by_view: Sequence[Sequence[float]]) -> Tally:
        per_candidate = list(zip(*by_view, strict=True))
        scored = [
            replace(candidate, view_scores=tuple(-math.inf if math.isnan(value) else value for value in view_scores))
            for candidate, view_scores in zip(tally.candidates, per_candidate, strict=False)
        ]
        return replace(tally, candidates=(*scored, *tally.candidates[len(scored) :]))

    def _readings(self, samples: Sequence[Samples]) -> list[Reading]:
        return [
            self._read(completion, number, view)
            for number, (view, found) in enumerate(zip(self.views, samples, strict=True))
            for completion in found.completions
        ]

    def _read(self, completion: Completion, number: int, view: View) -> Reading:
        if not completion.finished:
            return Reading(number, Refusal.UNFINISHED, completion.log_probability)
        outcome = self.writer.read(completion.ids)
        if not isinstance(outcome, Refusal):
            outcome = view.undo(outcome)
        return Reading(number, outcome, completion.log_probability)


def _missing_tokens(
    task: Task,
    num_views: int,
    *,
    seed: int,
    writer: PromptWriter,
    max_positions: int,
    max_new_tokens: int | None,
    when_too_long: WhenTooLong,
) -> int:
    """How many tokens more the longest prompt would need to leave room for its answer, as far as that can be guessed.

    A task is not failed on a guess, so that then the room is that for the smallest grid.

    Lengths differ with the side of the grids that is up, so both are measured; with colours and orders only where the
    tokenizer merges digits, and then every view is.
    """
    views: tuple[View, ...] = (View(), View(dihedral=4))
    if writer.cells_change_length():
        views += draw_views(num_views, seed=seed, num_pairs=len(task.train))
    return max(
        len(writer.question(seen.train, query))
        + (
            writer.num_answer_tokens(((0,),))
            if when_too_long == "fail"
            else _answer_tokens(seen.train, query, writer=writer, max_new_tokens=max_new_tokens)
        )
        - max_positions
        for seen in (view.apply_task(task) for view in views)
        for query in seen.test
    )


def _answer_tokens(pairs: Sequence[Pair], query: Grid, *, writer: PromptWriter, max_new_tokens: int | None) -> int:
    """Of the largest answer to expect: as large as the query where outputs are as large as inputs, else as large as
    the largest output shown; but not more than may be generated."""
    grids = [pair.output for pair in pairs]
    if all(shape(pair.input) == shape(pair.output) for pair in pairs):
        grids.append(query)
    expected = max(writer.num_answer_tokens(grid) for grid in grids)
    return expected if max_new_tokens is None else min(expected, max_new_tokens)


def _without_longest(pairs: tuple[Pair, ...], *, writer: PromptWriter) -> tuple[Pair, ...]:
    longest = max(range(len(pairs)), key=lambda i: len(writer.training([pairs[i]])))
    return pairs[:longest] + pairs[longest + 1 :]


def _prompt_seed(seed: int, *, test_index: int, view: int) -> int:
    """A seed below 2**31 of each prompt's own, that does not depend on how many there are."""
    digest = hashlib.sha256(f"{seed}/{test_index}/{view}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1
