"""What the service is told by its environment."""

from pathlib import Path

import pytest

from jobs.config import ServiceConfig, VllmConfig
from jobs.errors import ConfigurationError

pytestmark = pytest.mark.fast

NEEDED = {
    "ARCADAPT_DATABASE_URL": "postgresql://db/arcadapt",
    "ARCADAPT_BROKER_URL": "redis://broker",
    "ARCADAPT_ARTIFACTS_DIR": "/data/artifacts",
}


def test_the_needed_settings_are_enough():
    config = ServiceConfig.from_env(NEEDED)
    assert config == ServiceConfig(
        database_url="postgresql://db/arcadapt",
        broker_url="redis://broker",
        artifacts_dir=Path("/data/artifacts"),
        work_dir=Path("/data/work"),
    )
    assert (config.lease_s, config.max_attempts, config.api_keys) == (30.0, 3, ())


def test_every_setting_can_be_given():
    given = {
        "WORK_DIR": "/scratch",
        "LEASE_S": "12.5",
        "MAX_ATTEMPTS": "5",
        "JOB_TIMEOUT_S": "60",
        "SAMPLE_PACK": "2",
        "ADAPT_PACK": "16",
        "OVERLAP": "off",
        "VLLM_KV_CACHE_GIB": "1.5",
        "VLLM_MAX_NUM_SEQS": "64",
        "VLLM_MAX_LORAS": "8",
        "VLLM_STARTUP_LIMIT_S": "90",
        "VLLM_REQUEST_LIMIT_S": "600",
        "MAX_BODY_BYTES": "1000",
        "MAX_TASKS": "7",
        "API_KEYS": " one, two ,,",
    }
    config = ServiceConfig.from_env(NEEDED | {f"ARCADAPT_{name}": value for name, value in given.items()})
    assert (config.work_dir, config.lease_s, config.max_attempts) == (Path("/scratch"), 12.5, 5)
    assert (config.job_timeout_s, config.max_body_bytes, config.max_tasks) == (60.0, 1000, 7)
    assert config.api_keys == ("one", "two")
    assert (config.sample_pack, config.adapt_pack, config.overlap) == (2, 16, False)
    assert config.vllm == VllmConfig(
        kv_cache_gib=1.5, max_num_seqs=64, max_loras=8, startup_limit_s=90.0, request_limit_s=600.0
    )


def test_all_that_is_missing_or_garbled_is_named_at_once():
    env = {
        "ARCADAPT_BROKER_URL": " ",
        "ARCADAPT_LEASE_S": "soon",
        "ARCADAPT_MAX_TASKS": "0",
        "ARCADAPT_MAX_ATTEMPTS": "1.5",
        "ARCADAPT_SAMPLE_PACK": "0",
        "ARCADAPT_ADAPT_PACK": "many",
        "ARCADAPT_OVERLAP": "perhaps",
        "ARCADAPT_VLLM_MAX_LORAS": "some",
    }
    with pytest.raises(ConfigurationError) as caught:
        ServiceConfig.from_env(env)
    said = str(caught.value)
    servers = ("DATABASE_URL", "BROKER_URL", "ARTIFACTS_DIR")
    packs = ("SAMPLE_PACK", "ADAPT_PACK", "OVERLAP")
    for name in (*servers, *packs, "LEASE_S", "MAX_TASKS", "MAX_ATTEMPTS", "VLLM_MAX_LORAS"):
        assert f"ARCADAPT_{name}" in said


@pytest.mark.parametrize(("value", "overlap"), [("on", True), ("off", False), ("", None), (" on ", True)])
def test_a_switch_is_on_or_off_or_nobodys_choice(value: str, overlap: bool | None):
    assert ServiceConfig.from_env(NEEDED | {"ARCADAPT_OVERLAP": value}).overlap is overlap


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0"])
def test_times_are_positive_and_finite(value: str):
    with pytest.raises(ConfigurationError, match="LEASE_S"):
        ServiceConfig.from_env(NEEDED | {"ARCADAPT_LEASE_S": value})


@pytest.mark.parametrize("value", [",", " , ", ",,"])
def test_keys_without_a_key_let_nobody_in(value: str):
    with pytest.raises(ConfigurationError, match="API_KEYS is set, but there is no key"):
        ServiceConfig.from_env(NEEDED | {"ARCADAPT_API_KEYS": value})
