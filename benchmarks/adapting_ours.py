"""Our way: `train_together`, which draws the sequences itself while it trains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from arc_engine.adaptation.pack import PackLimits, train_together
from arc_engine.adaptation.run import Adaptation, Run
from arc_engine.adaptation.steps import AdaptationStep
from arc_engine.base_models.loading import LoadedBase
from arc_engine.settings import AdaptationSettings
from benchmarks.adapting_clock import Timing, Together
from benchmarks.adapting_jobs import PROMPT, Job


@dataclass(frozen=True, slots=True, eq=False)
class _Trainee:
    """A job on its way; what goes wrong with it goes wrong with the measurement."""

    run: Run
    clock: Together

    def done(self, adaptation: Adaptation) -> None:  # noqa: ARG002 - nobody wants the adapter
        self.clock.exported()

    def failed(self, error: Exception) -> None:
        raise error


def train_ours(
    base: LoadedBase, jobs: Sequence[Job], *, settings: AdaptationSettings, pack: int
) -> tuple[Timing, list[list[float]]]:
    """Trains the jobs, at most `pack` of them at a time, and exports their adapters."""
    losses: list[list[float]] = [[] for _ in jobs]
    clock = Together(device=base.device)

    def observer(own: list[float]) -> Callable[[AdaptationStep], None]:
        def observe(step: AdaptationStep) -> None:
            own.append(step.loss)
            clock.step()

        return observe

    waiting = iter(zip(jobs, losses, strict=True))

    def admit() -> _Trainee | None:
        upcoming = next(waiting, None)
        if upcoming is None:
            return None
        job, own = upcoming
        with clock.startup():
            run = Run(base, [job.task], settings=settings, prompt=PROMPT, observe=observer(own))
        return _Trainee(run, clock)

    train_together(base, admit, limits=PackLimits(max_runs=pack))
    return clock.timing(), losses
