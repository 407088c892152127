"""What a worker has at hand for every job."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobs.artifacts import ArtifactStore
from jobs.claims import ClaimedJob
from worker.base_folders import BaseFolders
from worker.warm import WarmModels


def _to_nobody(_: ClaimedJob) -> None:
    return


@dataclass(frozen=True, slots=True)
class Workshop:
    """Models, places for files, who else is told of a job, and the sign that it is time to go."""

    models: WarmModels
    artifacts: ArtifactStore
    work_dir: Path
    job_timeout_s: float
    shutting_down: threading.Event
    models_dir: Path | None = None
    adapt_pack: int | None = None
    """Most jobs that are trained together. None: as many as are good for the device."""
    pass_on: Callable[[ClaimedJob], None] = _to_nobody
    """Told of every job that is no longer held here, in whichever thread that was; raises nothing."""

    @property
    def bases(self) -> BaseFolders:
        """Where base models lie."""
        return BaseFolders(self.work_dir, self.models_dir)
