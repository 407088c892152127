"""An engine process that misbehaves as its first argument says, for what a healthy vLLM cannot be made to do.

A prompt that begins with the token `POISON` ends it whatever its behaviour is.
"""

import sys
import time
from pathlib import Path

from arc_engine.errors import AdapterRefused, SamplerFailed
from arc_engine.sampling.protocol import Completion, Samples
from arc_engine.sampling.wire import (
    Call,
    SampleJob,
    ScoreJob,
    error_line,
    parse_call,
    ready_line,
    sampled_line,
    scored_line,
)

POISON = 666


def say(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


def prompts(job: SampleJob | ScoreJob) -> list[tuple[int, ...]]:
    return [prompt.ids for prompt in (job.prompts if isinstance(job, SampleJob) else job.questions)]


def answer(call: Call, completion: Completion) -> str:
    if call[0] == "sample":
        return sampled_line([(Samples((completion,)),) * len(job.prompts) for job in call[1]])
    return scored_line([tuple((-1.0,) * len(q.answers) for q in job.questions) for job in call[1]])


def main() -> None:
    behaviour, folder = sys.argv[1], Path(sys.argv[2])
    starts = len(list(folder.iterdir())) + 1
    (folder / f"start-{starts}").touch()
    if behaviour == "hang at start":
        time.sleep(600)
    if behaviour == "fail at start" or (behaviour == "fail to start again" and starts > 1):
        say(error_line(SamplerFailed("no such model")))
        return
    say(ready_line(max_model_len=100, startup_s=0.0))
    for line in sys.stdin:
        reply(behaviour, parse_call(line), start=starts)


def reply(behaviour: str, call: Call, *, start: int) -> None:
    if any(ids[:1] == (POISON,) for job in call[1] for ids in prompts(job)):
        sys.exit(5)
    completion = Completion((start,), -1.0, finished=True)
    match behaviour:
        case "die once" if start == 1:
            sys.exit(3)
        case "always die":
            sys.exit(3)
        case "hang":
            time.sleep(600)
        case "talk nonsense":
            say("nonsense\n")
        case "too few":
            say(sampled_line([(Samples((completion,)),)]))
        case "refuse":
            say(sampled_line([AdapterRefused("not this one")] * len(call[1])))
        case _:
            say(answer(call, completion))


main()
