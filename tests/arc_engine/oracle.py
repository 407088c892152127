"""A sampler that knows the answers of one task, in place of a model."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from arc_engine.encoders import MinimalGridEncoder
from arc_engine.errors import EngineError
from arc_engine.grids import Grid
from arc_engine.pretraining.tokenizer import build_tokenizer
from arc_engine.sampling.protocol import (
    Completion,
    Nucleus,
    Question,
    Sampled,
    SampleRequest,
    Samples,
    Scored,
    ScoreRequest,
)
from arc_engine.task_views import draw_views
from arc_engine.tasks import Pair, Task

TOKENIZER = build_tokenizer(model_max_length=4096)
TASK = Task(
    train=(Pair(((1, 2),), ((2, 1),)), Pair(((3, 4, 5),), ((5, 4, 3),)), Pair(((6,), (7,)), ((6,), (7,)))),
    test=(((1, 2, 3), (4, 5, 6)), ((7, 8),)),
)
OUTPUTS: tuple[Grid, ...] = (((3, 2, 1), (6, 5, 4)), ((8, 7),))


def said(text: str, *, log_probability: float = -1.0, finished: bool = True) -> Completion:
    return Completion(tuple(TOKENIZER.encode(text, add_special_tokens=False)), log_probability, finished)


def right_of_course(view: int, right: str) -> Completion:
    return said(right)


class Oracle:
    """A sampler that knows the task.

    It answers as `say(view, grid)` tells it, given the right answer as the view shows it, finds a grid as likely under
    every view as `likely(grid)` says, and refuses the adapters that it is told to.
    """

    def __init__(
        self,
        say: Callable[[int, str], Completion | Samples] = right_of_course,
        *,
        num_views: int = 4,
        likely: Callable[[Grid], float] = lambda grid: -1.0,
        refuses: Mapping[str, EngineError] | None = None,
        refuses_to_score: Mapping[str, EngineError] | None = None,
        max_positions: int | None = None,
    ) -> None:
        self._say = say
        self._num_views = num_views
        self._likely = likely
        self._refuses = refuses or {}
        self._refuses_to_score = refuses_to_score or {}
        self._max_positions = max_positions
        self.ranks: list[int] = []
        self.calls: list[Sequence[SampleRequest]] = []
        self.score_calls: list[Sequence[ScoreRequest]] = []

    def start(self, *, lora_rank: int = 0) -> None:
        pass

    def max_positions(self, *, base: Path, lora_rank: int = 0) -> int | None:
        self.ranks.append(lora_rank)
        return self._max_positions

    def close(self) -> None:
        pass

    def sample(self, requests: Sequence[SampleRequest], *, base: Path) -> list[Sampled]:
        self.calls.append(requests)
        return [
            self._refuses[request.adapter.name]
            if request.adapter and request.adapter.name in self._refuses
            else tuple(self._samples(request))
            for request in requests
        ]

    def score(self, requests: Sequence[ScoreRequest], *, base: Path) -> list[Scored]:
        self.score_calls.append(requests)
        return [
            self._refuses_to_score[request.adapter.name]
            if request.adapter and request.adapter.name in self._refuses_to_score
            else tuple(self._scores(request.questions))
            for request in requests
        ]

    def _samples(self, request: SampleRequest) -> Iterator[Samples]:
        views = draw_views(self._num_views, seed=0, num_pairs=len(TASK.train))
        shown = [MinimalGridEncoder().encode(view.apply(output)) for output in OUTPUTS for view in views]
        method = request.parameters.method
        times = method.num_samples if isinstance(method, Nucleus) else 1
        for number, (text, _) in enumerate(zip(shown, request.prompts, strict=True)):
            found = self._say(number % self._num_views, text)
            yield found if isinstance(found, Samples) else Samples((found,) * times)

    def _scores(self, questions: Sequence[Question]) -> Iterator[tuple[float, ...]]:
        views = draw_views(len(questions) // len(OUTPUTS), seed=0, num_pairs=len(TASK.train))
        for view, question in zip(itertools.cycle(views), questions, strict=False):
            assert all(ids[-1] == TOKENIZER.eos_token_id for ids in question.answers)
            texts = [TOKENIZER.decode(ids[:-1], skip_special_tokens=False) for ids in question.answers]
            yield tuple(self._likely(view.undo(MinimalGridEncoder().decode(text))) for text in texts)
