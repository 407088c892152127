"""A thread that does work beside the main one whenever it is told that there may be some."""

import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger()


class Sideline:
    """Calls `work` until it says that there is nothing left, and then waits to be woken; it begins with that, too."""

    def __init__(self, work: Callable[[], bool], *, shutting_down: threading.Event) -> None:
        self._work = work
        self._shutting_down = shutting_down
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sideline", daemon=True)
        self._start = threading.Lock()

    @property
    def is_used(self) -> bool:
        """Whether it was ever woken."""
        return self._thread.ident is not None

    def wake(self) -> None:
        """There may be something to do. Returns at once."""
        self._woken.set()
        with self._start:
            if not self.is_used:
                self._thread.start()

    def close(self) -> None:
        """Waits for the end of what it does; `shutting_down` is set."""
        if self.is_used:
            self._woken.set()
            self._thread.join()

    def _run(self) -> None:
        while not self._shutting_down.is_set():
            self._woken.wait()
            self._woken.clear()
            try:
                while not self._shutting_down.is_set() and self._work():
                    pass
            except Exception:  # of claiming, such as a database that is away; the next to wake it makes it try again
                log.exception("work beside the training failed")
