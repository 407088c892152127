"""Jobs that are trained together: let in one by one as there is room for them, and ended one by one."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Self, TypeAlias

import structlog

from arc_engine.adaptation.pack import PackLimits, train_together
from arc_engine.adaptation.run import Adaptation, Run
from arc_engine.base_models.loading import LoadedBase
from jobs.states import Stage
from worker.adapting import get_ready, hand_on, initial_adapter, stored
from worker.holding import Held
from worker.record import JobRecord
from worker.stage import StepRecorder
from worker.step_writer import StepWriter
from worker.workshop import Workshop

GPU_PACK: Final = 8
TURN_S: Final = 180.0
"""A pack lets nobody in for longer: the worker has other things to do, on other base models too."""
LOOK_AGAIN_AFTER_S: Final = 1.0

ClaimMore: TypeAlias = Callable[[], JobRecord | None]
"""Claims another queued job that can be trained together with the first one, if there is one."""

log = structlog.get_logger()


def adapt_together(
    first: Held, base: LoadedBase, *, steps: StepWriter, claim_more: ClaimMore | None, workshop: Workshop
) -> None:
    """Trains the job, and beside it those that `claim_more` gives, as many at a time as the device is good for.

    A job that was taken from a lost worker, or from company that took too long, is trained alone.
    """
    size = workshop.adapt_pack or (GPU_PACK if base.device.startswith("cuda") else 1)
    alone = claim_more is None or first.record.job.requeues > 0
    with _Pack(first, base, size=1 if alone else size, steps=steps, claim_more=claim_more, workshop=workshop) as pack:
        train_together(base, pack.admit, limits=PackLimits(max_runs=pack.size))


class _Pack:
    """Who is trained together. They end in a thread of their own: what they leave is stored while the others go on."""

    def __init__(
        self,
        first: Held,
        base: LoadedBase,
        *,
        size: int,
        steps: StepWriter,
        claim_more: ClaimMore | None,
        workshop: Workshop,
    ) -> None:
        self.size = size
        self._base = base
        self._steps = steps
        self._claim_more = claim_more
        self._workshop = workshop
        self._first: Held | None = first
        self._all = [first]
        self._closes_at = time.monotonic() + TURN_S
        self._look_again_at = 0.0
        self._ends = ThreadPoolExecutor(1, thread_name_prefix="ends")
        first.share(size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ends.shutdown()
        if error is not None:
            for held in self._all:
                held.end(error, is_anyones=isinstance(error, Exception))

    def admit(self) -> "_Trainee | None":
        """The next one to be trained, if one is waiting."""
        while (held := self._next()) is not None:
            with held.on_its_own():
                return self._trainee(held)
        return None

    def end(self, held: Held, action: Callable[[], None]) -> None:
        """Does the last that is to be done for a job, when those that ended before are through with theirs."""

        def do() -> None:
            try:
                with held.on_its_own():
                    action()
            except Exception:
                log.exception("a job has no end on record; leaving it to its lease")

        self._ends.submit(do)

    def hand_on(self, trainee: "_Trainee", adaptation: Adaptation) -> None:
        """Stores what was trained."""
        trained = trainee.recorder.finish(adaptation)
        adapter, usage = stored(
            trainee.held.record.job,
            trained,
            started=trainee.started,
            device=self._base.device,
            workshop=self._workshop,
        )
        hand_on(trainee.held, adapter, usage, workshop=self._workshop)

    def _next(self) -> Held | None:
        if self._first is not None:
            held, self._first = self._first, None
            return held
        record = self._claimed()
        if record is None:
            return None
        held = Held(record, workshop=self._workshop)
        held.share(self.size)
        self._steps.attend(record, held.lease)
        self._all.append(held)
        return held.__enter__()

    def _claimed(self) -> JobRecord | None:
        now = time.monotonic()
        is_open = self.size > 1 and now < self._closes_at and not self._workshop.shutting_down.is_set()
        if self._claim_more is None or not is_open or now < self._look_again_at:
            return None
        try:
            record = self._claim_more()
        except Exception:  # those that are being trained are none the worse for it
            log.exception("no more jobs could be claimed")
            record = None
        if record is None:
            self._look_again_at = time.monotonic() + LOOK_AGAIN_AFTER_S
        return record

    def _trainee(self, held: Held) -> "_Trainee":
        started, job = time.monotonic(), held.record.job
        settings = job.settings
        adaptation = settings.adaptation
        if adaptation is None:
            raise RuntimeError("a job without adaptation is not trained")
        if held is not self._all[0]:  # for the first one the base model had to be found as well
            get_ready(job, folder=self._base.folder, workshop=self._workshop)
        recorder = StepRecorder(held.record, held.lease, stage=Stage.TASK, logging_steps=adaptation.logging_steps)
        run = Run(
            self._base,
            [job.task],
            settings=adaptation,
            prompt=settings.prompt,
            observe=recorder,
            initial=initial_adapter(job, adaptation, workshop=self._workshop),
        )
        return _Trainee(held, run, recorder, started, self)


@dataclass(frozen=True, slots=True)
class _Trainee:
    """A job in training."""

    held: Held
    run: Run
    recorder: StepRecorder
    started: float
    pack: _Pack

    def done(self, adaptation: Adaptation) -> None:
        self.pack.end(self.held, partial(self.pack.hand_on, self, adaptation))

    def failed(self, error: Exception) -> None:
        self.pack.end(self.held, partial(self.held.end, error))
