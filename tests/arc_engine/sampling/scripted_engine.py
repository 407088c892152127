"""An engine process that misbehaves as its first argument says, for what a healthy vLLM cannot be made to do."""

import sys
import time
from pathlib import Path

from arc_engine.errors import AdapterRefused, SamplerFailed
from arc_engine.sampling.protocol import Completion
from arc_engine.sampling.wire import Request, completions_line, error_line, ready_line


def say(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()


def main() -> None:
    behaviour, folder = sys.argv[1], Path(sys.argv[2])
    starts = len(list(folder.iterdir())) + 1
    (folder / f"start-{starts}").touch()
    if behaviour == "hang at start":
        time.sleep(600)
    if behaviour == "fail at start":
        say(error_line(SamplerFailed("no such model")))
        return
    say(ready_line(max_model_len=100, startup_s=0.0))
    for line in sys.stdin:
        request = Request.from_line(line)
        first = (Completion((starts,), -1.0, finished=True),)
        match behaviour:
            case "die once" if starts == 1:
                sys.exit(3)
            case "always die":
                sys.exit(3)
            case "hang":
                time.sleep(600)
            case "talk nonsense":
                say("nonsense\n")
            case "too few":
                say(completions_line([first]))
            case "refuse":
                say(error_line(AdapterRefused("not this one")))
            case _:
                say(completions_line([first * request.parameters.num_samples for _ in request.prompts]))


main()
