"""What the vLLM client and its engine process say to each other: one JSON object a line.

The engine's first line is `ready` or `error`; from then on every request line is answered by one line, `completions` or
`error`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from arc_engine.errors import AdapterRefused, EngineError, SamplerFailed, TaskTooLong
from arc_engine.sampling.protocol import Completion, Prompt, SamplingParameters

ERRORS: Final[dict[str, type[EngineError]]] = {e.code: e for e in (AdapterRefused, TaskTooLong, SamplerFailed)}
"""The errors that travel; every other one arrives as `SamplerFailed`."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine process is started with. `kv_cache_gib` None: 1 on a CPU, 8 on a GPU."""

    base: str
    max_lora_rank: int
    max_num_seqs: int
    kv_cache_gib: float | None
    parent_pid: int

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "EngineOptions":
        """The inverse of `to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class AdapterName:
    """An adapter as the engine knows it: `name` and `number` are used for one request and never again."""

    name: str
    number: int
    path: str


@dataclass(frozen=True, slots=True)
class Request:
    """Sample these prompts, with this adapter or with none."""

    prompts: tuple[Prompt, ...]
    adapter: AdapterName | None
    parameters: SamplingParameters

    def to_line(self) -> str:
        """One line, with its end."""
        return json.dumps(asdict(self), separators=(",", ":")) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "Request":
        """The inverse of `to_line`."""
        fields = json.loads(line)
        return cls(
            prompts=tuple(Prompt(tuple(prompt["ids"]), prompt["seed"]) for prompt in fields["prompts"]),
            adapter=fields["adapter"] and AdapterName(**fields["adapter"]),
            parameters=SamplingParameters(**fields["parameters"]),
        )


def ready_line(*, max_model_len: int, startup_s: float) -> str:
    """The engine's greeting: the longest sequence it takes, in tokens, and how long it took to start."""
    return json.dumps({"ready": {"max_model_len": max_model_len, "startup_s": startup_s}}) + "\n"


def completions_line(completions: Sequence[Sequence[Completion]]) -> str:
    """The answer to a request."""
    rows = [[asdict(completion) for completion in found] for found in completions]
    return json.dumps({"completions": rows}, separators=(",", ":")) + "\n"


def error_line(error: Exception) -> str:
    """The answer to a request, or the greeting, when it came to nothing."""
    code = error.code if isinstance(error, EngineError) and error.code in ERRORS else SamplerFailed.code
    message = str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
    return json.dumps({"error": {"code": code, "message": message}}) + "\n"


def parse_ready(line: str) -> dict[str, Any]:
    """What `ready_line` said; raises what `error_line` said, and `SamplerFailed` on anything else."""
    ready: dict[str, Any] = _reply(line, "ready")
    return ready


def parse_completions(line: str, request: Request) -> list[list[Completion]]:
    """What `completions_line` said; raises what `error_line` said, and `SamplerFailed` on anything else."""
    rows = _reply(line, "completions")
    try:
        found = [[Completion(tuple(c["ids"]), c["log_probability"], c["finished"]) for c in row] for row in rows]
    except (KeyError, TypeError) as error:
        raise SamplerFailed(f"the engine's completions cannot be read: {line[:200]!r}") from error
    if [len(row) for row in found] != [request.parameters.num_samples] * len(request.prompts):
        raise SamplerFailed(
            f"the engine gave {[len(row) for row in found]} completions for {len(request.prompts)} prompts with "
            f"{request.parameters.num_samples} each"
        )
    return found


def _reply(line: str, kind: str) -> Any:  # noqa: ANN401 - JSON
    try:
        fields = json.loads(line)
        if "error" in fields:
            raise ERRORS[fields["error"]["code"]](fields["error"]["message"])
        return fields[kind]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, EngineError):
            raise
        raise SamplerFailed(f"the engine answered {line[:200]!r} where {kind} was due") from error
