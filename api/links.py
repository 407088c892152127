"""Where things are: paths relative to the host, below the prefix that a reverse proxy may have put us under."""

from uuid import UUID

from fastapi import Request


class Links:
    """Builds the paths of one request's answer."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")

    @classmethod
    def of(cls, request: Request) -> "Links":
        """Links that carry the same prefix as `request`."""
        return cls(request.scope.get("root_path", ""))

    def batch(self, batch_id: UUID) -> dict[str, str]:
        """`self`, `submission` and `jobs` of a batch."""
        path = f"{self._root}/batches/{batch_id}"
        return {"self": path, "submission": f"{path}/submission", "jobs": f"{self._root}/jobs?batch_id={batch_id}"}

    def job(self, job_id: UUID, batch_id: UUID) -> dict[str, str]:
        """Everything there is to fetch about a job, and its cancel action."""
        path = f"{self._root}/jobs/{job_id}"
        return {
            "self": path,
            "losses": f"{path}/losses",
            "candidates": f"{path}/candidates",
            "adapter": f"{path}/adapter",
            "cancel": f"{path}/cancel",
            "batch": f"{self._root}/batches/{batch_id}",
        }

    def base_model(self, name: str) -> str:
        """A base model; its name may have parts."""
        return f"{self._root}/base-models/{name}"

    def experiment(self, experiment_id: UUID) -> dict[str, str]:
        """Everything there is to fetch about an experiment, and its actions."""
        path = f"{self._root}/experiments/{experiment_id}"
        return {
            "self": path,
            "report": f"{path}/report",
            "jobs": f"{path}/jobs",
            "curves": f"{path}/curves",
            "cancel": f"{path}/cancel",
            "resume": f"{path}/resume",
        }
