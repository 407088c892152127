import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from arc_engine.errors import SamplerFailed
from arc_engine.sampling import backends
from arc_engine.sampling.backends import choose, make_sampler
from arc_engine.sampling.torch_sampler import TorchSampler
from arc_engine.sampling.vllm_sampler import VllmSampler


def test_auto_takes_vllm_where_it_is_installed() -> None:
    assert choose("auto") == ("vllm" if find_spec("vllm") else "torch")
    assert choose("torch") == "torch"


def test_without_vllm_auto_takes_torch_and_vllm_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None if name == "vllm" else find_spec(name))
    assert choose("auto") == "torch"
    with pytest.raises(SamplerFailed, match="vllm is not installed"):
        choose("vllm")


def test_making_a_sampler_starts_nothing(tmp_path: Path) -> None:
    vllm = make_sampler("vllm", base=tmp_path)
    assert isinstance(vllm, VllmSampler)
    assert vllm.engine_pid is None
    assert isinstance(make_sampler("torch", base=tmp_path), TorchSampler)


def test_the_vllm_client_and_solving_load_neither_vllm_nor_torch() -> None:
    code = (
        "import sys, arc_engine.solving, arc_engine.scoring, arc_engine.sampling.backends, "
        "arc_engine.sampling.vllm_sampler; "
        "print([name for name in ('torch', 'transformers', 'peft', 'vllm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
