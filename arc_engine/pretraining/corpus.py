"""Where training sequences come from: synthetic families and ARC training tasks, each under a random view."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from arc_engine.encoders import MinimalGridEncoder, parse_encoder
from arc_engine.grids import grid_to_array
from arc_engine.pretraining.arc_training import SolvedTask, load_new_in_second, load_training_split
from arc_engine.pretraining.families import FAMILIES, Family, SizeRange
from arc_engine.pretraining.origins import NO_LINKS, Places, links, origins
from arc_engine.pretraining.recipe import Recipe, Stage
from arc_engine.pretraining.synthetic import SyntheticTask, draw_task, families_by_level
from arc_engine.prompts import render
from arc_engine.tasks import Pair
from arc_engine.tokens import CONTEXT, TokenizedPrompt, Tokenizer, tokenize
from arc_engine.views import View, ViewDistribution

MIN_PAIRS = 2
_PLAIN = MinimalGridEncoder()
"""Of which every character is a token."""
_AROUND = 3
"""Tokens of a pair beside its grids: two markers and the end of text."""


def plain_tokens(pairs: Sequence[Pair]) -> int:
    """Tokens of a whole compact prompt in the plainest encoder: the same tasks are held out whichever is trained on."""
    return 1 + sum(_AROUND + sum(len(_PLAIN.encode(grid)) for grid in (pair.input, pair.output)) for pair in pairs)


@dataclass(frozen=True, slots=True)
class TracedPrompt:
    """A prompt, and which tokens of its inputs those of its outputs come from."""

    prompt: TokenizedPrompt
    links: Places
    """`[links, 2]`: an output cell's token, and that of the input cell; none where nothing was traced."""


class Corpus:
    """Draws tokenised training sequences; all randomness comes from the generator that the caller passes."""

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, *, arc_tasks: Sequence[SolvedTask] | None = None) -> None:
        """`arc_tasks` defaults to the ARC-AGI-1 training split; tasks too long for every stage are left out.

        Held-out tasks are of `arc_tasks` alone, whether `arc_agi_2` adds others or not.
        """
        self._recipe = recipe
        self._tokenizer = tokenizer
        self._encoder = parse_encoder(recipe.grid_encoder)
        self._levels = families_by_level(without=recipe.held_out.families)
        self._views = ViewDistribution(keep_background=recipe.keep_background, pair_order=False)
        tasks = load_training_split() if arc_tasks is None else arc_tasks
        short = [task for task in tasks if plain_tokens(task.pairs) <= recipe.held_out.arc_max_tokens]
        self.held_out = tuple(short[:: recipe.held_out.arc_every])
        held_ids = {task.task_id for task in self.held_out}
        room = max(stage.max_tokens for stage in recipe.stages)
        trained = [task for task in tasks if task.task_id not in held_ids]
        if recipe.arc_agi_2:
            trained += load_new_in_second()
        self.arc_tasks = tuple(task for task in trained if self._shortest(task) <= room)
        self._arc_fitting = {
            stage.name: [task for task in self.arc_tasks if self._shortest(task) <= stage.max_tokens]
            for stage in recipe.stages
        }

    def sequence(self, rng: Generator, *, progress: float) -> TracedPrompt:
        """One sequence of the stage that runs at `progress`, at most the stage's `max_tokens` long."""
        stage, elapsed = self._recipe.stage_at(progress)
        arc_share = stage.arc_share[0] + (stage.arc_share[1] - stage.arc_share[0]) * elapsed
        while True:
            task = None if rng.random() < arc_share else self._synthetic_task(rng, stage)
            pairs = self._arc_pairs(rng, stage) if task is None else task.pairs
            view = self._view(rng, num_pairs=len(pairs))
            prompt = _whole_pairs(
                self.tokens_of([view.apply_pair(pair) for pair in pairs]), max_tokens=stage.max_tokens
            )
            if prompt.answers[-1] >= MIN_PAIRS - 1:
                return TracedPrompt(prompt, NO_LINKS if task is None else self._links(prompt, task, view))

    def under_view(self, pairs: Sequence[Pair], rng: Generator) -> tuple[Pair, ...]:
        """The pairs under one random dihedral and colour view."""
        view = self._view(rng, num_pairs=len(pairs))
        return tuple(view.apply_pair(pair) for pair in pairs)

    def _view(self, rng: Generator, *, num_pairs: int) -> View:
        return self._views.draw(random.Random(int(rng.integers(2**62))), num_pairs=num_pairs)

    def _links(self, prompt: TokenizedPrompt, task: SyntheticTask, view: View) -> Places:
        """Of the pairs from the first on that are small enough to be traced."""
        guidance = self._recipe.guidance
        if guidance is None:
            return NO_LINKS
        traced = list[Places]()
        shown = task.pairs[: prompt.answers[-1] + 1]
        for before in (grid_to_array(pair.input) for pair in shown):
            if before.size > guidance.max_cells:
                break
            traced.append(origins(task.rule.apply, before))
        return links(prompt, shown[: len(traced)], traced, view=view)

    def tokens_of(self, pairs: Sequence[Pair]) -> TokenizedPrompt:
        """The compact prompt of solved pairs."""
        return tokenize(render(pairs, query=None, encoder=self._encoder), self._tokenizer)

    def _synthetic_task(self, rng: Generator, stage: Stage) -> SyntheticTask:
        families = [FAMILIES[name] for name in stage.families] or self._families_of_a_level(rng, stage)
        family = families[int(rng.integers(len(families)))]
        size = SizeRange(stage.min_side, int(rng.integers(min(stage.min_side + 1, stage.max_side), stage.max_side + 1)))
        low, high = self._recipe.pairs
        return draw_task(family, rng, size=size, num_pairs=int(rng.integers(low, high + 1)))

    def _families_of_a_level(self, rng: Generator, stage: Stage) -> list[Family]:
        levels = sorted(stage.level_weights)
        weights = np.array([stage.level_weights[level] for level in levels])
        return self._levels[levels[int(rng.choice(len(levels), p=weights / weights.sum()))]]

    def _arc_pairs(self, rng: Generator, stage: Stage) -> tuple[Pair, ...]:
        """All pairs in any order, so that each of them is at times the last one, left out of the examples."""
        tasks = self._arc_fitting[stage.name]
        task = tasks[int(rng.integers(len(tasks)))]
        return tuple(task.pairs[i] for i in rng.permutation(len(task.pairs)))

    def _length(self, pair: Pair) -> int:
        texts = [self._encoder.encode(grid) for grid in (pair.input, pair.output)]
        return _AROUND + sum(len(self._tokenizer.encode(text, add_special_tokens=False)) for text in texts)

    def _shortest(self, task: SolvedTask) -> int:
        return 1 + sum(sorted(self._length(pair) for pair in task.pairs)[: MIN_PAIRS + 1])


def _whole_pairs(prompt: TokenizedPrompt, *, max_tokens: int) -> TokenizedPrompt:
    """As many whole pairs, from the first on, as have at most `max_tokens` with what precedes them."""
    if len(prompt) <= max_tokens:
        return prompt
    end = max_tokens
    while end > 1 and prompt.answers[end - 1] in (CONTEXT, prompt.answers[end]):
        end -= 1
    return TokenizedPrompt(prompt.ids[:end], prompt.answers[:end])
