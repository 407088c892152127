"""The sampling half of jobs in one place: tasks under many views, their completions, the two attempts."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from arc_engine.candidates import Candidate, Tally
from arc_engine.errors import EngineError
from arc_engine.grids import MAX_SIDE, NUM_COLOURS
from arc_engine.prompts.writer import PromptWriter
from arc_engine.sampling.protocol import (
    AdapterFolder,
    DepthFirst,
    Greedy,
    Method,
    Nucleus,
    Sampler,
    SampleRequest,
    Samples,
    SamplingParameters,
    Scored,
    ScoreRequest,
)
from arc_engine.selection import Attempts, Selection, select
from arc_engine.settings import SamplingSettings, SolveSettings
from arc_engine.task_views import TaskViews
from arc_engine.tasks import Task
from arc_engine.tokens import Tokenizer


@dataclass(frozen=True, slots=True)
class Assignment:
    """A task to be answered, with the adapter that was trained on it or with none."""

    task: Task
    settings: SolveSettings
    adapter: AdapterFolder | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What sampling found: candidates (best first) and attempts per test input, and counts over all of them.

    `num_completions` is per test input; `refusals` counts the completions that showed no grid by reason; `num_tokens`
    counts generated tokens; `num_cut` prompts whose search a budget ended; `num_scored` answers that were scored again.
    """

    selections: tuple[Selection, ...]
    num_completions: tuple[int, ...]
    refusals: dict[str, int]
    num_tokens: int
    num_cut: int
    num_scored: int
    num_dropped_pairs: int

    @property
    def candidates(self) -> tuple[tuple[Candidate, ...], ...]:
        """Per test input, best first."""
        return tuple(selection.candidates for selection in self.selections)

    @property
    def attempts(self) -> tuple[Attempts, ...]:
        """Per test input."""
        return tuple(selection.attempts for selection in self.selections)


@dataclass(slots=True)
class _Work:
    """An assignment on its way; `error` ends it."""

    assignment: Assignment
    views: TaskViews
    scoring_views: TaskViews
    samples: tuple[Samples, ...] = ()
    tallies: tuple[Tally, ...] = ()
    num_scored: int = 0
    error: EngineError | None = None


def answer(assignment: Assignment, *, sampler: Sampler, tokenizer: Tokenizer, base: Path, max_positions: int) -> Answer:
    """`answer_all` for one; raises the error."""
    [found] = answer_all([assignment], sampler=sampler, tokenizer=tokenizer, base=base, max_positions=max_positions)
    if isinstance(found, EngineError):
        raise found
    return found


def answer_all(
    assignments: Sequence[Assignment], *, sampler: Sampler, tokenizer: Tokenizer, base: Path, max_positions: int
) -> list[Answer | EngineError]:
    """Answers every test input of every task: one call to the sampler for all of their views, one to score again.

    `max_positions` is the model's context in tokens; the sampler's counts where it is shorter. An assignment that
    cannot be answered has its error in the place of its answer: `EncoderUnsupported` or `PromptUnsupported` when the
    tokenizer cannot write the prompt, `TaskTooLong` when a prompt leaves no room for an answer, `AdapterRefused`, what
    else the sampler says of it. Raises `SamplerFailed`.
    """
    if not assignments:
        return []
    rank = max(assignment.adapter.rank if assignment.adapter else 0 for assignment in assignments)
    max_positions = min(max_positions, sampler.max_positions(base=base, lora_rank=rank) or max_positions)
    works = [_prepared(assignment, tokenizer=tokenizer, max_positions=max_positions) for assignment in assignments]
    going = [work for work in works if isinstance(work, _Work)]
    _sample(going, sampler=sampler, base=base)
    _score([work for work in going if work.error is None], sampler=sampler, base=base)
    return [work if isinstance(work, EngineError) else work.error or _answer(work) for work in works]


def task_views(task: Task, settings: SolveSettings, *, tokenizer: Tokenizer, max_positions: int) -> TaskViews:
    """The task under all views that answering it asks about.

    Raises the `EncoderUnsupported`, `PromptUnsupported` or `TaskTooLong` that would take the place of the answer.
    """
    sampling, selection = settings.sampling, settings.selection
    return TaskViews.of(
        task,
        num_views=max(sampling.num_views, selection.num_scoring_views if selection.rescores else 0),
        seed=sampling.seed,
        writer=PromptWriter.of(settings.prompt, tokenizer),
        max_positions=max_positions,
        max_new_tokens=sampling.max_new_tokens,
        when_too_long=sampling.when_too_long,
    )


def _prepared(assignment: Assignment, *, tokenizer: Tokenizer, max_positions: int) -> _Work | EngineError:
    settings = assignment.settings
    try:
        views = task_views(assignment.task, settings, tokenizer=tokenizer, max_positions=max_positions)
    except EngineError as error:
        return error
    num_scoring_views = settings.selection.num_scoring_views if settings.selection.rescores else 0
    return _Work(assignment, views.first(settings.sampling.num_views), views.first(num_scoring_views))


def _sample(works: Sequence[_Work], *, sampler: Sampler, base: Path) -> None:
    requests = [
        SampleRequest(
            work.views.prompts(),
            work.assignment.adapter,
            _parameters(work.assignment.settings.sampling, writer=work.views.writer),
        )
        for work in works
    ]
    for work, sampled in zip(works, sampler.sample(requests, base=base) if requests else [], strict=True):
        if isinstance(sampled, EngineError):
            work.error = sampled
        else:
            work.samples = sampled
            work.tallies = work.views.tallies(sampled)


def _score(works: Iterable[_Work], *, sampler: Sampler, base: Path) -> None:
    asked = [
        (work, questions)
        for work in works
        if work.assignment.settings.selection.rescores
        and (
            questions := work.scoring_views.questions(
                work.tallies, num_scored=work.assignment.settings.selection.num_scored
            )
        )
    ]
    requests = [ScoreRequest(questions, work.assignment.adapter) for work, questions in asked]
    results: list[Scored] = sampler.score(requests, base=base) if requests else []
    for (work, questions), scored in zip(asked, results, strict=True):
        if isinstance(scored, EngineError):
            work.error = scored
        else:
            work.tallies = work.scoring_views.rescored(work.tallies, scored)
            work.num_scored = sum(len(question.answers) for question in questions)


def _answer(work: _Work) -> Answer:
    method, views = work.assignment.settings.selection.method, work.views.views
    refusals: Counter[str] = Counter()
    for tally in work.tallies:
        refusals.update({reason.value: count for reason, count in tally.refusals.items()})
    completions = [completion for samples in work.samples for completion in samples.completions]
    return Answer(
        selections=tuple(select(tally, method=method, views=views) for tally in work.tallies),
        num_completions=tuple(tally.num_completions for tally in work.tallies),
        refusals=dict(refusals),
        num_tokens=sum(len(completion.ids) + completion.finished for completion in completions),
        num_cut=sum(samples.cut for samples in work.samples),
        num_scored=work.num_scored,
        num_dropped_pairs=work.views.num_dropped_pairs,
    )


def _parameters(settings: SamplingSettings, *, writer: PromptWriter) -> SamplingParameters:
    return SamplingParameters(
        method=_method(settings),
        max_new_tokens=settings.max_new_tokens or tokens_of_largest_grid(writer),
        stop_token_id=writer.stop_token_id,
        allowed_token_ids=writer.answer_alphabet() if settings.grid_tokens_only else None,
        time_budget_s=settings.time_budget_s,
    )


def _method(settings: SamplingSettings) -> Method:
    match settings.method:
        case "greedy":
            return Greedy()
        case "sample":
            return Nucleus(settings.samples_per_view, settings.temperature, settings.top_p)
        case "dfs":
            return DepthFirst(settings.min_probability, settings.max_nodes)


def tokens_of_largest_grid(writer: PromptWriter) -> int:
    """How many tokens an answer of 30x30 cells takes, its end token included.

    Measured on a grid without runs of equal cells, which tokenizers that merge digits write the longest.
    """
    grid = tuple(tuple((3 * x + 7 * y) % NUM_COLOURS for x in range(MAX_SIDE)) for y in range(MAX_SIDE))
    return writer.num_answer_tokens(grid)
