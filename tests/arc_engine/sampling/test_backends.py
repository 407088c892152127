import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from arc_engine.errors import SamplerFailed
from arc_engine.sampling import backends
from arc_engine.sampling.backends import choose, make_sampler
from arc_engine.sampling.protocol import Greedy, SampleRequest, SamplingParameters
from arc_engine.sampling.torch_sampler import TorchSampler
from arc_engine.sampling.vllm_sampler import VllmOptions, VllmSampler
from arc_engine.sampling.wire import EngineOptions
from arc_engine.settings import SamplingSettings


def settings(**changed: object) -> SamplingSettings:
    return SamplingSettings.model_validate(changed)


def test_auto_takes_vllm_where_it_is_installed() -> None:
    assert choose(settings()) == ("vllm" if find_spec("vllm") else "torch")
    assert choose(settings(backend="torch")) == "torch"


def test_without_vllm_auto_takes_torch_and_vllm_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None if name == "vllm" else find_spec(name))
    assert choose(settings()) == "torch"
    with pytest.raises(SamplerFailed, match="vllm is not installed"):
        choose(settings(backend="vllm"))


def test_only_torch_searches_depth_first() -> None:
    assert choose(settings(method="dfs")) == "torch"
    assert choose(settings(method="dfs", backend="torch")) == "torch"


def test_making_a_sampler_starts_nothing(tmp_path: Path) -> None:
    vllm = make_sampler("vllm", base=tmp_path)
    assert isinstance(vllm, VllmSampler)
    assert vllm.engine_pid is None
    assert isinstance(make_sampler("torch", base=tmp_path), TorchSampler)


def test_an_engine_is_made_as_the_options_say(tmp_path: Path) -> None:
    log_file = tmp_path / "log"
    options = VllmOptions(
        command=(sys.executable, "-c", "import sys; print(sys.argv[1], file=sys.stderr)"), max_loras=3, kv_cache_gib=0.5
    )
    sampler = make_sampler("vllm", base=tmp_path, log_file=log_file, options=options)
    request = SampleRequest((), None, SamplingParameters(Greedy(), max_new_tokens=1, stop_token_id=None))
    with pytest.raises(SamplerFailed):
        sampler.sample([request], base=tmp_path)
    seen = EngineOptions.from_json(log_file.read_text().splitlines()[0])
    assert (seen.max_loras, seen.kv_cache_gib, seen.base) == (3, 0.5, str(tmp_path))


def test_the_vllm_client_and_solving_load_neither_vllm_nor_torch() -> None:
    code = (
        "import sys, arc_engine.solving, arc_engine.scoring, arc_engine.sampling.backends, "
        "arc_engine.sampling.vllm_sampler; "
        "print([name for name in ('torch', 'transformers', 'peft', 'vllm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
