"""The engine process: `python -m arc_engine.sampling.vllm_engine OPTIONS`, calls on stdin, answers on stdout.

It ends when its parent does.
"""

import ctypes
import os
import queue
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, TextIO

from arc_engine.sampling.wire import EngineOptions, error_line, parse_call, ready_line, sampled_line, scored_line

if TYPE_CHECKING:
    from arc_engine.sampling.vllm_generation import Engine
    from arc_engine.sampling.wire import Call

PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Starts the engine and answers calls until stdin ends."""
    started = time.monotonic()
    options = EngineOptions.from_json(sys.argv[1])
    _die_with_parent(options.parent_pid)
    answers = _take_stdout()
    lines = _read_stdin()
    try:
        from arc_engine.sampling.vllm_generation import Engine  # noqa: PLC0415 - prints when imported, and can fail

        engine = Engine(options)
        engine.warm_up()
    except Exception as error:
        _send(answers, error_line(error))
        raise
    _send(answers, ready_line(max_model_len=engine.max_model_len, startup_s=time.monotonic() - started))
    while True:
        call = parse_call(lines.get())
        try:
            answer = _answer(engine, call)
        except Exception as error:  # a job that is refused raises nothing: it has its error in its place
            _send(answers, error_line(error))
            raise  # vLLM does not say which errors it survives
        _send(answers, answer)


def _answer(engine: "Engine", call: "Call") -> str:
    if call[0] == "score":
        return scored_line(engine.score(call[1]))
    before = engine.num_cached_tokens
    results = engine.sample(call[1])
    return sampled_line(results, num_cached_tokens=engine.num_cached_tokens - before)


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
