"""What the service is told by its environment."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import environ
from pathlib import Path
from typing import Final, TypeVar

from jobs.errors import ConfigurationError

PREFIX: Final = "ARCADAPT_"
MEBIBYTE: Final = 1024 * 1024
_SWITCH: Final = {"on": True, "off": False, "": None}

T = TypeVar("T")
D = TypeVar("D")
N = TypeVar("N", int, float)


@dataclass(frozen=True)
class VllmConfig:
    """Budgets of a worker's vLLM engine. None: what the engine has by itself."""

    kv_cache_gib: float | None = None
    """Memory of its key-value cache, exactly; its weights and activations come on top."""
    max_num_seqs: int | None = None
    """Most completions that are generated at a time."""
    max_loras: int | None = None
    """Most adapters in use at a time."""
    startup_limit_s: float | None = None
    request_limit_s: float | None = None
    """Longest call, for however many jobs it is; an engine that takes longer is taken for hanging."""


@dataclass(frozen=True)
class ServiceConfig:
    """Settings of one installation. The API, the workers and the migrations read the same ones."""

    database_url: str
    broker_url: str
    artifacts_dir: Path
    work_dir: Path
    """Scratch space of this machine: merged base models, adapters being trained."""
    lease_s: float = 30.0
    """A worker that is silent for this long loses its job."""
    max_attempts: int = 3
    """A job whose worker is lost this often has failed."""
    job_timeout_s: float = 3600.0
    adapt_pack: int | None = None
    """Most jobs that one worker trains together. None: as many as are good for its device."""
    overlap: bool | None = None
    """Whether a worker answers jobs while it trains others. None: if it trains on a GPU."""
    sample_pack: int = 4
    """Most jobs that one call to the sampler answers."""
    vllm: VllmConfig = field(default_factory=VllmConfig)
    models_dir: Path | None = None
    """Folder of models and adapters that base models may name as `local:NAME`; none means that there are none."""
    max_body_bytes: int = 5 * MEBIBYTE
    max_tasks: int = 1000
    """Most tasks in one request."""
    max_experiment_jobs: int = 10_000
    """Most jobs that one experiment may make: cells times seeds times tasks."""
    api_keys: tuple[str, ...] = ()
    """Bearer keys; none means that everybody who reaches the API may use it."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> "ServiceConfig":
        """Reads `ARCADAPT_*` variables; raises `ConfigurationError` that lists everything missing or garbled."""
        reader = _Reader(environ if env is None else env)
        artifacts_dir = Path(reader.required("ARTIFACTS_DIR"))
        config = cls(
            database_url=reader.required("DATABASE_URL"),
            broker_url=reader.required("BROKER_URL"),
            artifacts_dir=artifacts_dir,
            work_dir=reader.optional("WORK_DIR", Path, artifacts_dir.parent / "work"),
            models_dir=reader.optional("MODELS_DIR", Path, None),
            lease_s=reader.positive("LEASE_S", float, cls.lease_s),
            max_attempts=reader.positive("MAX_ATTEMPTS", int, cls.max_attempts),
            job_timeout_s=reader.positive("JOB_TIMEOUT_S", float, cls.job_timeout_s),
            adapt_pack=reader.positive("ADAPT_PACK", int, None),
            overlap=reader.switch("OVERLAP"),
            sample_pack=reader.positive("SAMPLE_PACK", int, cls.sample_pack),
            vllm=VllmConfig(
                kv_cache_gib=reader.positive("VLLM_KV_CACHE_GIB", float, None),
                max_num_seqs=reader.positive("VLLM_MAX_NUM_SEQS", int, None),
                max_loras=reader.positive("VLLM_MAX_LORAS", int, None),
                startup_limit_s=reader.positive("VLLM_STARTUP_LIMIT_S", float, None),
                request_limit_s=reader.positive("VLLM_REQUEST_LIMIT_S", float, None),
            ),
            max_body_bytes=reader.positive("MAX_BODY_BYTES", int, cls.max_body_bytes),
            max_tasks=reader.positive("MAX_TASKS", int, cls.max_tasks),
            max_experiment_jobs=reader.positive("MAX_EXPERIMENT_JOBS", int, cls.max_experiment_jobs),
            api_keys=reader.keys("API_KEYS"),
        )
        reader.check()
        return config


def models_folder(env: Mapping[str, str] | None = None) -> Path | None:
    """`ARCADAPT_MODELS_DIR`, for who needs nothing else of the configuration."""
    return _Reader(environ if env is None else env).optional("MODELS_DIR", Path, None)


class _Reader:
    """Reads variables one by one and keeps every complaint, so that the user sees all of them at once."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._problems: list[str] = []

    def required(self, name: str) -> str:
        value = self._value(name)
        if not value:
            self._problems.append(f"{PREFIX}{name} is not set")
        return value

    def optional(self, name: str, parse: Callable[[str], T], default: D) -> T | D:
        value = self._value(name)
        return parse(value) if value else default

    def positive(self, name: str, parse: Callable[[str], N], default: D) -> N | D:
        value = self._value(name)
        if not value:
            return default
        try:
            number = parse(value)
        except ValueError:
            self._problems.append(f"{PREFIX}{name} is not a number: {value!r}")
            return default
        if not 0 < number < float("inf"):
            self._problems.append(f"{PREFIX}{name} must be above 0, is {value}")
        return number

    def switch(self, name: str) -> bool | None:
        value = self._value(name)
        if value not in _SWITCH:
            self._problems.append(f"{PREFIX}{name} must be on or off, is {value}")
        return _SWITCH.get(value)

    def keys(self, name: str) -> tuple[str, ...]:
        try:
            return parse_api_keys(self._value(name))
        except ConfigurationError as error:
            self._problems += error.problems
            return ()

    def check(self) -> None:
        if self._problems:
            raise ConfigurationError(tuple(self._problems))

    def _value(self, name: str) -> str:
        return self._env.get(PREFIX + name, "").strip()


def parse_api_keys(text: str) -> tuple[str, ...]:
    """The keys of `ARCADAPT_API_KEYS`, which commas part; none for a blank text, which is how unset looks.

    Raises `ConfigurationError` for a text without a key in it: who wrote it did not mean to let everybody in.
    """
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if text.strip() and not keys:
        raise ConfigurationError((f"{PREFIX}API_KEYS is set, but there is no key in it: {text!r}",))
    return keys
