"""An engine process that misbehaves as its first argument says, for what a healthy vLLM cannot be made to do.

`start N times` fails to start any more than that.

A prompt that begins with the token `POISON` ends it, and one that begins with `TAR` makes it hang, whatever its
behaviour is.
"""

import os
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
TAR = 667
MAX_MODEL_LEN = 100


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
    if behaviour == "always die at start" or (behaviour == "die at start once" and starts == 1):
        sys.exit(4)
    if behaviour == "fail at start" or (behaviour.startswith("start ") and starts > int(behaviour.split()[1])):
        say(error_line(SamplerFailed("no such model")))
        return
    if behaviour == "tell its environment":
        (folder / "environment").write_text("\n".join(os.environ))
    say(ready_line(max_model_len=MAX_MODEL_LEN, startup_s=0.0))
    for line in sys.stdin:
        reply(behaviour, parse_call(line), start=starts)


def reply(behaviour: str, call: Call, *, start: int) -> None:
    begun_with = {ids[0] for job in call[1] for ids in prompts(job) if ids}
    if POISON in begun_with:
        sys.exit(5)
    if TAR in begun_with:
        time.sleep(600)
    completion = Completion((start,), -1.0, finished=True)
    match behaviour:
        case "die once" if start == 1:
            sys.exit(3)
        case "always die":
            sys.exit(3)
        case "hang once" if start == 1:
            time.sleep(600)
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


if __name__ == "__main__":
    main()
