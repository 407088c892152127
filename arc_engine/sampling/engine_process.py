"""One engine process: started, spoken to, noticed when it dies, and never left behind."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import arc_engine
from arc_engine.errors import SamplerFailed
from arc_engine.sampling.protocol import Sampled, Scored
from arc_engine.sampling.wire import (
    Call,
    EngineOptions,
    SampleJob,
    ScoreJob,
    call_line,
    parse_num_cached_tokens,
    parse_ready,
    parse_sampled,
    parse_scored,
)

T = TypeVar("T")

log = logging.getLogger(__name__)

ENGINE_COMMAND: Final = (sys.executable, "-m", "arc_engine.sampling.vllm_engine")
KILL_TAKES_S: Final = 10.0
BUDGET_MARGIN_S: Final = 60.0
"""What a job may take besides its time budget: loading its adapter, and the step in which the budget runs out."""


class EngineLost(SamplerFailed):
    """The engine process ended, or had to be ended, while we waited for it."""


class EngineDied(EngineLost):
    """The engine process ended while we waited for it."""


class EngineTimedOut(EngineLost):
    """The engine process took longer than its limit and was killed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait for an engine, in seconds: `request_s` for every job of a call, or its time budget if that is
    longer."""

    startup_s: float = 600.0
    request_s: float = 1800.0

    def of(self, call: Call) -> float:
        """How long a call may take, in seconds: all of its jobs may have to wait for each other."""
        if call[0] == "score":
            return self.request_s * len(call[1])
        budgets = [job.parameters.time_budget_s for job in call[1]]
        return sum(self.request_s if b is None else max(self.request_s, b + BUDGET_MARGIN_S) for b in budgets)


class EngineProcess:
    """A child process that holds a vLLM engine, from its start to its death; there is no restart here.

    The constructor returns at once. One thread at a time may call `sample`, `score` or `wait_until_ready`; `kill` may
    come from any thread and makes a call that is under way raise `EngineDied`. `num_cached_tokens` counts the prompt
    tokens that calls to sample had from the prefix cache.
    """

    def __init__(
        self,
        options: EngineOptions,
        *,
        environment: Mapping[str, str],
        limits: Limits,
        log_file: Path | None,
        command: tuple[str, ...] = ENGINE_COMMAND,
    ) -> None:
        self.options = options
        self._limits = limits
        self._log_file = log_file
        self._max_model_len: int | None = None
        self.num_cached_tokens = 0
        self._process: subprocess.Popen[str] | None = None
        self._failure: OSError | None = None
        self._spawned = threading.Event()
        self._killed = threading.Event()
        self._started_at = time.monotonic()
        # Linux kills the child when the *thread* that started it ends (PR_SET_PDEATHSIG, set by the child), so this
        # thread stays with it for life; a caller's thread may be a short one.
        self._keeper = threading.Thread(
            target=self._keep, args=((*command, options.to_json()), dict(environment)), name="vllm-engine", daemon=True
        )
        self._keeper.start()

    @property
    def alive(self) -> bool:
        """Whether the process is starting or running."""
        if not self._spawned.is_set():
            return True
        return self._process is not None and self._process.poll() is None and not self._killed.is_set()

    @property
    def pid(self) -> int | None:
        """The process id, None if the process could not be started."""
        self._spawned.wait()
        return self._process.pid if self._process else None

    def sample(self, jobs: Sequence[SampleJob]) -> list[Sampled]:
        """Sends the jobs, once the engine is ready, and waits for what becomes of them.

        Raises `EngineDied` and `EngineTimedOut`, and `SamplerFailed` when the start-up fails.
        """

        def parse(line: str) -> list[Sampled]:
            found = parse_sampled(line, jobs)
            self.num_cached_tokens += parse_num_cached_tokens(line)
            return found

        return self._call(("sample", tuple(jobs)), parse)

    def score(self, jobs: Sequence[ScoreJob]) -> list[Scored]:
        """The same for jobs to score."""
        return self._call(("score", tuple(jobs)), lambda line: parse_scored(line, jobs))

    def wait_until_ready(self) -> int:
        """Waits for the end of the start-up; the longest sequence that the engine takes, in tokens.

        Raises `EngineDied`, `EngineTimedOut`, and `SamplerFailed` with the reason that the engine gives.
        """
        if self._max_model_len is not None:
            return self._max_model_len
        elapsed_s = time.monotonic() - self._started_at
        line = self._exchange(None, limit_s=max(0.0, self._limits.startup_s - elapsed_s), what="the start-up")
        try:
            ready = parse_ready(line)
            self._max_model_len = int(ready["max_model_len"])
        except SamplerFailed as error:
            self.kill()
            raise SamplerFailed(f"the vLLM engine cannot start: {error}; {self._where_to_look()}") from error
        log.info("vLLM engine ready after %.1f s, max_model_len %s", ready["startup_s"], self._max_model_len)
        return self._max_model_len

    def kill(self) -> None:
        """Ends the process at once, with all that it started; harmless when it has ended."""
        self._killed.set()
        self._spawned.wait()
        if self._process is not None and self._process.poll() is None:  # else the number may be another's by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """`kill`, and waits until its memory and files are free for the next one."""
        self.kill()
        self._keeper.join(timeout=KILL_TAKES_S)

    def _call(self, call: Call, parse: Callable[[str], T]) -> T:
        self.wait_until_ready()
        line = self._exchange(call_line(call), limit_s=self._limits.of(call), what="the request")
        try:
            return parse(line)
        except SamplerFailed as error:  # after an error of its own it is of no more use
            self.kill()
            raise EngineDied(f"the vLLM engine failed: {error}; {self._where_to_look()}") from error

    def _keep(self, command: tuple[str, ...], environment: dict[str, str]) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="arc-engine-", ignore_cleanup_errors=True) as scratch:
                with _opened(self._log_file) as stderr:
                    self._process = subprocess.Popen(  # noqa: S603 - our own module
                        command,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=stderr,
                        text=True,
                        encoding="utf-8",
                        env={**environment, "PYTHONPATH": _python_path(environment), "TMPDIR": scratch},
                        start_new_session=True,  # a Ctrl-C in the terminal is for us to handle
                    )
                self._spawned.set()
                if self._killed.is_set():
                    self.kill()
                self._process.wait()
                # Whatever it started goes with it, and with that the last writer of our pipe.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
        except OSError as error:
            self._failure = error
        finally:
            self._spawned.set()

    def _exchange(self, line: str | None, *, limit_s: float, what: str) -> str:
        """Writes a line, if any, and reads one. A limit that runs out kills the process, which ends both."""
        self._spawned.wait()
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            raise SamplerFailed(f"the vLLM engine cannot be started: {self._failure}")
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self.kill()

        timer = threading.Timer(limit_s, expire)
        timer.daemon = True
        timer.start()
        try:
            if line is not None:
                self._process.stdin.write(line)
                self._process.stdin.flush()
            reply = self._process.stdout.readline()
        except OSError:
            reply = ""
        finally:
            timer.cancel()
        if reply.endswith("\n"):
            return reply
        self.kill()
        if expired.is_set():
            raise EngineTimedOut(f"{what} took longer than {limit_s:.0f} s; the vLLM engine was killed")
        raise EngineDied(f"the vLLM engine ended during {what} ({self._end()}); {self._where_to_look()}")

    def _end(self) -> str:
        assert self._process is not None  # noqa: S101 - for the type checker
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    def _where_to_look(self) -> str:
        return f"see {self._log_file}" if self._log_file else "see the standard error of this process"


@contextlib.contextmanager
def _opened(log_file: Path | None) -> Iterator[int | None]:
    if log_file is None:
        yield None  # the child writes where we write
        return
    with log_file.open("ab") as file:
        yield file.fileno()


def _python_path(environment: Mapping[str, str]) -> str:
    """The child imports the same `arc_engine` as we do, installed or not."""
    here = str(Path(arc_engine.__file__).parents[1])
    return os.pathsep.join([here, *filter(None, [environment.get("PYTHONPATH")])])
