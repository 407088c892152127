"""The engine process: `python -m arc_engine.sampling.vllm_engine OPTIONS`, requests on stdin, answers on stdout.

It ends when its parent does.
"""

import ctypes
import os
import queue
import signal
import sys
import threading
import time
from typing import Final, TextIO

from arc_engine.errors import AdapterRefused, TaskTooLong
from arc_engine.sampling.wire import (
    EngineOptions,
    Request,
    completions_line,
    error_line,
    ready_line,
)

PR_SET_PDEATHSIG: Final = 1

ENVIRONMENT: Final = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process: no grandchildren to lose
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",  # the base is a folder
}
CPU_ENVIRONMENT: Final = {
    # One thread that may run anywhere. vLLM would pin threads to all cores and let them wait for each other in every
    # operation: next to a process that trains, that took 25 times as long for a small model.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}


def main() -> None:
    """Starts the engine and answers requests until stdin ends."""
    started = time.monotonic()
    options = EngineOptions.from_json(sys.argv[1])
    _die_with_parent(options.parent_pid)
    answers = _take_stdout()
    requests = _read_stdin()
    os.environ.update(ENVIRONMENT)
    for name, value in CPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from arc_engine.sampling.vllm_generation import Engine  # noqa: PLC0415 - reads the environment when imported

        engine = Engine(options)
        engine.warm_up()
    except Exception as error:
        _send(answers, error_line(error))
        raise
    _send(answers, ready_line(max_model_len=engine.max_model_len, startup_s=time.monotonic() - started))
    while True:
        request = Request.from_line(requests.get())
        try:
            answer = completions_line(engine.sample(request))
        except (AdapterRefused, TaskTooLong) as error:
            answer = error_line(error)
        except Exception as error:
            _send(answers, error_line(error))
            raise  # vLLM does not say which errors it survives
        _send(answers, answer)


def _die_with_parent(parent_pid: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before we could ask
        os._exit(1)


def _take_stdout() -> TextIO:
    """The pipe to the parent, for us alone: whatever else is printed goes to stderr."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return pipe


def _read_stdin() -> "queue.SimpleQueue[str]":
    """Lines as they come. The thread also notices that the parent has gone while the engine is at work."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _send(pipe: TextIO, line: str) -> None:
    pipe.write(line)
    pipe.flush()


if __name__ == "__main__":
    main()
