"""Our way: `train_together`, which draws the sequences itself while it trains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from arc_engine.adaptation.pack import PackLimits, train_together
from arc_engine.adaptation.run import Adaptation, Run
from arc_engine.adaptation.steps import AdaptationStep
from arc_engine.base_models.loading import LoadedBase
from arc_engine.settings import AdaptationSettings
from benchmarks.adapting_clock import Stopwatch, Timing
from benchmarks.adapting_jobs import PROMPT, Job


@dataclass(slots=True, eq=False)
class _Trainee:
    """A job on its way; what goes wrong with it goes wrong with the measurement."""

    run: Run
    adaptations: list[Adaptation] = field(default_factory=list)

    def done(self, adaptation: Adaptation) -> None:
        self.adaptations.append(adaptation)

    def failed(self, error: Exception) -> None:
        raise error


def train_ours(
    base: LoadedBase, jobs: Sequence[Job], *, settings: AdaptationSettings, pack: int
) -> tuple[Timing, list[list[float]]]:
    """Trains the jobs, at most `pack` of them at a time; its export of every adapter is timed with it."""
    losses: list[list[float]] = [[] for _ in jobs]
    stopwatch = Stopwatch(device=base.device, steps=settings.max_steps)

    def observer(own: list[float]) -> Callable[[AdaptationStep], None]:
        def observe(step: AdaptationStep) -> None:
            own.append(step.loss)
            stopwatch.step(step.step)

        return observe

    waiting = iter(zip(jobs, losses, strict=True))

    def admit() -> _Trainee | None:
        upcoming = next(waiting, None)
        if upcoming is None:
            return None
        job, own = upcoming
        return _Trainee(Run(base, [job.task], settings=settings, prompt=PROMPT, observe=observer(own)))

    train_together(base, admit, limits=PackLimits(max_runs=pack))
    return stopwatch.timing(), losses
