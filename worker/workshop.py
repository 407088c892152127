"""What a worker has at hand for every job."""

import threading
from dataclasses import dataclass
from pathlib import Path

from jobs.artifacts import ArtifactStore
from worker.base_folders import BaseFolders
from worker.warm import WarmModels


@dataclass(frozen=True, slots=True)
class Workshop:
    """Models, places for files, and the sign that it is time to go."""

    models: WarmModels
    artifacts: ArtifactStore
    work_dir: Path
    job_timeout_s: float
    shutting_down: threading.Event
    models_dir: Path | None = None

    @property
    def bases(self) -> BaseFolders:
        """Where base models lie."""
        return BaseFolders(self.work_dir, self.models_dir)
