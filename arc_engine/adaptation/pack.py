"""Training several adapters together: many runs, one forward pass."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from arc_engine.adaptation.grouping import joined
from arc_engine.adaptation.memory import token_budget
from arc_engine.adaptation.packed_batch import Portion
from arc_engine.adaptation.passes import Pass
from arc_engine.adaptation.run import Adaptation, Run
from arc_engine.adaptation.slots import Slot
from arc_engine.base_models.loading import LoadedBase
from arc_engine.errors import Diverged, OutOfMemory

log = logging.getLogger(__name__)


class Trainee(Protocol):
    """Who wants an adapter trained."""

    @property
    def run(self) -> Run:
        """What is to be trained."""
        ...

    def done(self, adaptation: Adaptation) -> None:
        """It is; its slot is free already."""
        ...

    def failed(self, error: Exception) -> None:
        """It cannot be, or its observer raised; the others go on."""
        ...


@dataclass(frozen=True, slots=True)
class PackLimits:
    """How many runs train together."""

    max_runs: int = 1
    max_tokens: int | None = None
    """Per forward pass, padding counted. None: what the device's free memory allows."""
    max_padding: float = 0.25
    """Most padding, as a share, that runs bring upon each other in a forward pass."""


def train_together(base: LoadedBase, admit: Callable[[], Trainee | None], *, limits: PackLimits | None = None) -> None:
    """Trains what `admit` gives, several at a time, until it gives nothing and all are done.

    `admit` is asked whenever a slot is free, between two steps too: it is to answer at once, None if nothing waits now.
    Runs that train together have the same base, precision and `gradient_checkpointing`; everything else may differ. A
    run does not depend on its company: its sequences, dropout, updates and end are its own, and its losses alone and
    in company are equal but for how float32 rounds sums of other lengths.

    Raises what is no `Exception`, whoever raises it, and what `admit`, `done` and `failed` raise.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="draw") as drawing:
        try:
            _Pack(base, limits or PackLimits(), drawing).train(admit)
        finally:
            drawing.shutdown(cancel_futures=True)


@dataclass(slots=True, eq=False)
class _Seat:
    """A trainee that has a slot."""

    trainee: Trainee
    slot: Slot
    last_pass: int
    """When it went through the model last; before that, when it came."""
    is_alone: bool = False
    """Whether it takes its passes alone, because one with others went wrong."""

    @property
    def run(self) -> Run:
        return self.trainee.run


class _Pack:
    def __init__(self, base: LoadedBase, limits: PackLimits, drawing: Executor) -> None:
        self._base = base
        self._drawing = drawing
        self._limits = limits
        self._seats: list[_Seat] = []
        self._num_passes = 0
        self._pass: Pass | None = None
        self._max_tokens = 0
        """Most in a pass that several take."""
        self._max_portion = math.inf
        """Most of one run. Not guessed: it decides the last bits of a loss."""

    def train(self, admit: Callable[[], Trainee | None]) -> None:
        while True:
            while len(self._seats) < self._limits.max_runs and (trainee := admit()) is not None:
                self._seat(trainee)
            if not self._seats:
                return
            self._advance()

    def _seat(self, trainee: Trainee) -> None:
        if self._pass is None:
            self._pass = Pass(self._base, checkpointing=trainee.run.settings.gradient_checkpointing)
            self._max_tokens = self._limits.max_tokens or token_budget(self._base, self._pass.sites)
            self._max_portion = self._limits.max_tokens or math.inf
        seat = _Seat(trainee, self._pass.slots.add(trainee.run.start), last_pass=self._num_passes)
        self._seats.append(seat)
        trainee.run.draw_ahead(self._drawing)
        self._on_its_own(seat, trainee.run.begin_step)

    def _advance(self) -> None:
        """One forward and backward pass, and the updates that it completes."""
        if self._pass is None:
            raise RuntimeError("nobody has come yet")
        begun, seats = time.perf_counter(), self._together()
        try:
            losses = self._pass.gradients([(seat.slot, seat.run) for seat in seats])
        except torch.OutOfMemoryError as error:
            self._make_smaller(seats, error)
            return
        except Exception as error:  # noqa: BLE001 - it may be one run's fault
            self._part(seats, error)
            return
        self._num_passes += 1
        shares = _shares([seat.run.portion for seat in seats])
        complete = [seat for seat, loss in zip(seats, losses, strict=True) if seat.run.end_portion(loss)]
        updated = self._updated(complete)
        seconds = time.perf_counter() - begun
        for seat, (num_tokens, num_computed, share) in zip(seats, shares, strict=True):
            seat.last_pass = self._num_passes
            seat.run.passes.add(
                num_runs=len(seats), num_tokens=num_tokens, num_computed=num_computed, seconds=share * seconds
            )
        for seat, update in updated:
            self._on_its_own(seat, partial(self._end_step, seat, update))

    def _together(self) -> list[_Seat]:
        """Who takes the next pass: the one that has waited longest, and others of about its size."""
        lead = min(self._seats, key=lambda seat: seat.last_pass)
        while lead.run.portion.num_padded > self._max_portion and lead.run.halve_portion():
            pass
        others = [] if lead.is_alone else [seat for seat in self._seats if seat is not lead and not seat.is_alone]
        joining = joined(
            lead.run.portion,
            [seat.run.portion for seat in others],
            max_tokens=self._max_tokens,
            max_padding=self._limits.max_padding,
        )
        chosen = {id(lead), *(id(others[index]) for index in joining)}
        return [seat for seat in self._seats if id(seat) in chosen]

    def _make_smaller(self, seats: list[_Seat], error: torch.OutOfMemoryError) -> None:
        """The pass did not fit into memory: fewer at a time from now on, parts of a batch where it was one run's."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half = sum(seat.run.portion.num_padded for seat in seats) // 2
        if len(seats) == 1 and not seats[0].run.halve_portion():
            self._leave(seats[0])
            seats[0].trainee.failed(OutOfMemory(seats[0].run.portion.num_tokens, str(error)))
            return
        if len(seats) == 1:
            self._max_portion = half
        self._max_tokens = min(self._max_tokens, half)
        log.warning("out of memory: at most %d tokens in a forward pass from now on", self._max_tokens)

    def _part(self, seats: list[_Seat], error: Exception) -> None:
        """The pass went wrong: each tries alone, and one that was alone has failed."""
        if len(seats) == 1:
            self._leave(seats[0])
            seats[0].trainee.failed(error)
        else:
            log.warning("a forward pass of %d runs failed; each goes on alone", len(seats), exc_info=error)
            for seat in seats:
                seat.is_alone = True

    def _updated(self, seats: Sequence[_Seat]) -> list[tuple[_Seat, "_Update"]]:
        """Updates the adapters whose batches are complete; those that cannot be, leave."""
        if self._pass is None or not seats:
            return []
        slots, sound = self._pass.slots, list[tuple[_Seat, _Update]]()
        for seat in seats:
            slots.divide_gradients(seat.slot, seat.run.loss_scale.value)
        norms = slots.gradient_norms([seat.slot for seat in seats])
        for seat, norm in zip(seats, norms, strict=True):
            run = seat.run
            if math.isfinite(run.loss) and norm <= run.settings.divergence_norm:
                sound.append((seat, _Update(run.learning_rate, norm, run.settings.max_grad_norm)))
            elif math.isfinite(run.loss) and not math.isfinite(norm) and run.loss_scale.lower():
                slots.forget_gradients(seat.slot)
                run.begin_again()
            else:
                self._leave(seat)
                seat.trainee.failed(Diverged(run.step, run.loss, norm, run.settings.divergence_norm))
        if sound:
            slots.update(
                [seat.slot for seat, _ in sound],
                learning_rates=[update.learning_rate for _, update in sound],
                weight_decays=[seat.run.settings.weight_decay for seat, _ in sound],
                clips=[update.clip for _, update in sound],
            )
        return sound

    def _end_step(self, seat: _Seat, update: "_Update") -> None:
        stopped_by = seat.run.end_step(learning_rate=update.learning_rate, grad_norm=update.grad_norm)
        if stopped_by is None:
            seat.run.begin_step()
        elif self._pass is not None:
            adaptation = seat.run.adaptation(self._pass.slots.matrices(seat.slot), stopped_by=stopped_by)
            self._leave(seat)
            seat.trainee.done(adaptation)

    def _on_its_own(self, seat: _Seat, action: Callable[[], None]) -> None:
        """What goes wrong ends this run alone."""
        try:
            action()
        except Exception as error:  # noqa: BLE001 - the trainee knows what to do with it
            self._leave(seat)
            seat.trainee.failed(error)

    def _leave(self, seat: _Seat) -> None:
        if seat in self._seats and self._pass is not None:
            self._seats.remove(seat)
            self._pass.slots.remove(seat.slot)


@dataclass(frozen=True, slots=True)
class _Update:
    """What a step's update is made with."""

    learning_rate: float
    grad_norm: float
    max_grad_norm: float

    @property
    def clip(self) -> float:
        """What the gradient is multiplied by, as `torch.nn.utils.clip_grad_norm_` has it."""
        return min(1.0, self.max_grad_norm / (self.grad_norm + 1e-6))


def _shares(portions: Sequence[Portion]) -> list[tuple[int, int, float]]:
    """Per run its own tokens, those computed for it, and its share of the seconds."""
    computed = max(len(portion.rows) for portion in portions) * max(portion.length for portion in portions)
    total = sum(portion.num_tokens for portion in portions)
    return [(portion.num_tokens, computed, portion.num_tokens / total) for portion in portions]
