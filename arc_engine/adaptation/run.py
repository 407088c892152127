"""One adapter in training, as far as it has come."""

import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Final

from arc_engine.adaptation.adapter import Adapter
from arc_engine.adaptation.dropout import SlotDropout
from arc_engine.adaptation.initialisation import LoraMatrices
from arc_engine.adaptation.lora import adapter_form
from arc_engine.adaptation.loss_scale import LossScale
from arc_engine.adaptation.mixture import TaskMixture
from arc_engine.adaptation.packed_batch import Portion, portions_of
from arc_engine.adaptation.schedule import learning_rate_factor
from arc_engine.adaptation.slots import SlotStart
from arc_engine.adaptation.steps import AdaptationStep, StepObserver
from arc_engine.adaptation.stopping import StopCause, StopRule
from arc_engine.base_models.loading import LoadedBase
from arc_engine.settings import AdaptationSettings, PromptSettings
from arc_engine.tasks import Task

PEFT_PREFIX: Final = "base_model.model."
"""What adapter files put before the names of a base model's layers."""


@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """What an adaptation leaves behind, and how it came to its end."""

    adapter: Adapter
    num_steps: int
    """Optimizer steps taken."""
    stopped_by: StopCause
    left_out: tuple[int, ...]
    """Indices of the tasks that were not trained on, because they fit into no sequence; empty for a single task."""
    compute_s: float
    """Seconds in forward and backward passes and updates; of those shared with others, its part by tokens."""
    padding: float
    """Share of the tokens computed for it that were padding."""
    company: float
    """Mean number of runs in its passes, itself included."""


@dataclass(slots=True)
class Passes:
    """What the forward passes of a run were like, summed up."""

    num_passes: int = 0
    num_runs: int = 0
    num_tokens: int = 0
    num_computed: int = 0
    compute_s: float = field(default=0.0)

    def add(self, *, num_runs: int, num_tokens: int, num_computed: int, seconds: float) -> None:
        """One more, with `num_runs` runs, of whose `num_computed` tokens `num_tokens` were this run's own."""
        self.num_passes += 1
        self.num_runs += num_runs
        self.num_tokens += num_tokens
        self.num_computed += num_computed
        self.compute_s += seconds


class Run:
    """One adapter in training: where its sequences come from, and when it has had enough of them.

    Made by whoever wants an adapter, trained by `train_together`.
    """

    def __init__(
        self,
        base: LoadedBase,
        tasks: Sequence[Task],
        *,
        settings: AdaptationSettings,
        prompt: PromptSettings,
        observe: StepObserver,
        initial: Adapter | None = None,
    ) -> None:
        """Raises what `adapt` raises before its first step."""
        self._started = time.perf_counter()
        self.settings = settings
        self.base = base
        self._observe = observe
        self._examples = TaskMixture(
            tasks,
            settings=settings,
            prompt=prompt,
            tokenizer=base.tokenizer,
            max_tokens=min(settings.max_seq_len, base.max_positions),
        )
        self._form = adapter_form(base, settings=settings, initial=initial)
        self._stop_rule = StopRule(settings)
        self.loss_scale = LossScale.of(base.model.dtype)
        self.passes = Passes()
        self.step = 0
        """The step under way, counted from 1."""
        self._executor: Executor | None = None
        self._upcoming: Future[tuple[Portion, ...]] | None = None
        self._batch: tuple[Portion, ...] = ()
        self._waiting: deque[Portion] = deque()
        self.loss = 0.0
        """Of the step under way, as far as its portions have been through the model."""

    @property
    def start(self) -> SlotStart:
        """What its slot begins with."""
        trained, frozen = (
            {name.removeprefix(PEFT_PREFIX): pair for name, pair in matrices.items()}
            for matrices in (self._form.trained, self._form.frozen)
        )
        return SlotStart(trained, frozen, self._form.scale)

    @property
    def learning_rate(self) -> float:
        """Of the step under way."""
        return self.settings.learning_rate * learning_rate_factor(
            self.step,
            scheduler=self.settings.lr_scheduler,
            max_steps=self.settings.max_steps,
            warmup_ratio=self.settings.warmup_ratio,
        )

    @property
    def portion(self) -> Portion:
        """What is to go through the model next."""
        return self._waiting[0]

    @property
    def dropout(self) -> SlotDropout:
        """What that portion's pass leaves out."""
        return SlotDropout(self.settings.lora_dropout, self.settings.seed, self.step, self.portion)

    def draw_ahead(self, executor: Executor) -> None:
        """Draws every batch while the one before it is in the model; called before the first step."""
        self._executor = executor

    def begin_step(self) -> None:
        """Takes the next batch."""
        self.step += 1
        self._batch = self._draw() if self._upcoming is None else self._upcoming.result()
        if self._executor is not None and self.step < self.settings.max_steps:
            self._upcoming = self._executor.submit(self._draw)
        self.begin_again()

    def begin_again(self) -> None:
        """With the same batch."""
        self._waiting, self.loss = deque(self._batch), 0.0

    def halve_portion(self) -> bool:
        """Makes two of the next portion; False: it is a single sequence."""
        halves = self.portion.halves()
        if len(halves) > 1:
            self._waiting.popleft()
            self._waiting.extendleft(reversed(halves))
        return len(halves) > 1

    def end_portion(self, loss: float) -> bool:
        """The next portion has been through the model, and gave this part of the loss. Whether it was the last one."""
        self.loss += loss
        self._waiting.popleft()
        return not self._waiting

    def end_step(self, *, learning_rate: float, grad_norm: float) -> StopCause | None:
        """The update is made: tells the observer, and says why the training ends now, if it does."""
        step = AdaptationStep(
            self.step,
            self.loss,
            learning_rate,
            grad_norm,
            tokens=sum(len(example) for portion in self._batch for example in portion.examples),
            elapsed_s=time.perf_counter() - self._started,
        )
        self._observe(step)
        return self._stop_rule.after(step)

    def _draw(self) -> tuple[Portion, ...]:
        drawn = [self._examples.draw()]
        most = self.settings.batch_tokens or math.inf
        while len(drawn) < self.settings.batch_size and sum(map(len, drawn)) < most:
            drawn.append(self._examples.draw())
        return portions_of(drawn)

    def adaptation(self, trained: dict[str, LoraMatrices], *, stopped_by: StopCause) -> Adaptation:
        """What is left behind, with the matrices `trained`, by layer of the base model."""
        by_peft_name = {f"{PEFT_PREFIX}{name}": pair for name, pair in trained.items()}
        passes = self.passes
        return Adaptation(
            self._form.filled(by_peft_name),
            num_steps=self.step,
            stopped_by=stopped_by,
            left_out=self._examples.left_out,
            compute_s=passes.compute_s,
            padding=1 - passes.num_tokens / passes.num_computed,
            company=passes.num_runs / passes.num_passes,
        )
