"""The compose file and its Dockerfiles name only what exists, and open nothing that should stay closed."""

import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.asgi import create
from arcadapt.stack.child import ChildSpec
from arcadapt.stack.folder import StackFolder
from arcadapt.stack.services import beat_service, worker_service
from jobs.config import PREFIX, ServiceConfig
from jobs.doorbells import QUEUES
from jobs.errors import ConfigurationError

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
VARIABLE = re.compile(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}")
ENV_EXAMPLE = (ROOT / ".env.example").read_text()
SECRETS = re.findall(r"^(\w+)=$", ENV_EXAMPLE, re.MULTILINE)


def _expanded(text: str, given: dict[str, str]) -> str:
    """What compose makes of `${NAME}`, `${NAME:-default}` and `${NAME:?message}`."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if given.get(name):
            return given[name]
        assert kind == ":-", f"{name} is not set"
        return str(rest)

    return VARIABLE.sub(value, text)


def test_whatever_can_be_set_reaches_a_service():
    used = {match[1] for match in VARIABLE.finditer((ROOT / "docker-compose.yml").read_text())}
    assert set(re.findall(r"^#?(\w+)=", ENV_EXAMPLE, re.MULTILINE)) == used


def test_the_stack_is_whole():
    assert set(SERVICES) == {"postgres", "redis", "migrate", "api", "worker", "beat", "grafana"}


@pytest.mark.parametrize("name", OURS)
def test_each_command_starts_something_that_exists(name: str):
    program, flag, module, *arguments = SERVICES[name]["command"]
    assert (program, flag) == ("python", "-m")
    assert importlib.util.find_spec(module)
    if module == "celery":
        # Looked for but not imported: these modules need the environment that the container gives them.
        app = importlib.util.find_spec(arguments[arguments.index("--app") + 1])
        assert app is not None
        assert app.origin is not None
        assert re.search(r"^app\b.*= celery_app\(", Path(app.origin).read_text(), re.MULTILINE)
    if module == "uvicorn":
        assert f"{create.__module__}:{create.__name__}" in arguments
        assert "--factory" in arguments


def test_every_queue_has_somebody_who_listens():
    commands = [SERVICES[name]["command"] for name in OURS if "celery" in SERVICES[name]["command"]]
    heard = [queue for command in commands for queue in command[command.index("--queues") + 1].split(",")]
    assert sorted(heard) == sorted(QUEUES)


def test_one_beat_and_one_job_at_a_time():
    assert [name for name in OURS if "--beat" in SERVICES[name]["command"]] == ["beat"]
    for name in ("worker", "beat"):
        command = SERVICES[name]["command"]
        assert command[command.index("--pool") + 1] == "solo"


@pytest.mark.parametrize(("name", "service"), [("worker", worker_service), ("beat", beat_service)])
def test_celery_runs_as_in_the_local_stack(name: str, service: Callable[..., ChildSpec], tmp_path: Path):
    local = service(StackFolder.of(tmp_path), env={}).command
    assert _flags(SERVICES[name]["command"]) == _flags(local) - {"--hostname", "--loglevel"}


def _flags(command: Sequence[str]) -> set[str]:
    return {word for word in command if word.startswith("--")}


@pytest.mark.parametrize("name", OURS)
def test_the_environment_is_all_that_the_service_needs(name: str):
    given = dict.fromkeys(SECRETS, "x1")
    env = {key: _expanded(value, given) for key, value in SERVICES[name]["environment"].items()}
    config = ServiceConfig.from_env(env)
    assert config.api_keys == ("x1",)
    defaults = ServiceConfig(
        database_url=config.database_url,
        broker_url=config.broker_url,
        artifacts_dir=config.artifacts_dir,
        work_dir=config.work_dir,
        models_dir=config.models_dir,
        api_keys=config.api_keys,
    )
    assert config == defaults, "what compose fills in where nothing is said differs from the service's own default"


def test_a_misspelt_setting_would_be_noticed():
    with pytest.raises(ConfigurationError) as caught:
        ServiceConfig.from_env({})
    needed = set(re.findall(rf"{PREFIX}\w+", str(caught.value)))
    assert all(needed <= set(SERVICES[name]["environment"]) for name in OURS)


def test_every_secret_must_be_given():
    text = (ROOT / "docker-compose.yml").read_text()
    for name, kind, _ in VARIABLE.findall(text):
        assert name in ENV_EXAMPLE, f"{name} is not in .env.example"
        assert (kind == ":?") == (name in SECRETS), name
    assert {"ARCADAPT_API_KEYS", "POSTGRES_PASSWORD"} <= set(SECRETS)


def test_ports_are_published_on_loopback_only():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"api", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_each_service_waits_for_what_it_needs():
    for service in SERVICES.values():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[needed]
            else:
                assert how["condition"] == "service_completed_successfully"
                assert SERVICES[needed]["restart"] == "no"
    for name in ("api", "worker", "beat"):
        assert set(SERVICES[name]["depends_on"]) == {"migrate", "redis"}


def test_health_is_asked_of_all_but_the_worker_that_cannot_answer_and_the_migration_that_ends():
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == {"worker", "migrate"}
    assert "/readyz" in SERVICES["api"]["healthcheck"]["test"][-1]


def test_only_the_worker_reserves_a_gpu():
    reserving = {name: service["deploy"] for name, service in SERVICES.items() if "deploy" in service}
    (device,) = reserving.pop("worker")["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert reserving == {}


def test_mounts_are_there_and_shared_where_they_must_be():
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = VARIABLE.sub("", mount).split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), mount
            elif source:
                assert source in COMPOSE["volumes"]
    for name in ("api", "worker"):
        assert f"artifacts:{SERVICES[name]['environment']['ARCADAPT_ARTIFACTS_DIR']}" in SERVICES[name]["volumes"]


def test_images_of_others_are_pinned():
    assert all(re.search(r":\d", service["image"]) for name, service in SERVICES.items() if name not in OURS)


@pytest.mark.parametrize("name", OURS)
def test_the_dockerfile_copies_only_what_the_context_has(name: str):
    build = SERVICES[name]["build"]
    lines = (ROOT / build["dockerfile"]).read_text().splitlines()
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [source for line in lines if line.startswith("COPY ") for source in line.split()[1:-1]]
    assert copied
    assert set(copied) <= set(allowed)
    assert all((ROOT / source).exists() for source in copied if source != "README.md")
    assert any(line.startswith("USER ") for line in lines), "the service would run as root"


def test_all_packages_are_in_the_images():
    packaged = re.findall(r'"(\w+)\*"', (ROOT / "pyproject.toml").read_text())
    for dockerfile in (ROOT / "ops").glob("*.Dockerfile"):
        text = dockerfile.read_text()
        assert all(f"COPY {package} {package}\n" in text for package in packaged)


def test_the_data_source_is_the_composed_database():
    source = yaml.safe_load((ROOT / "ops/grafana/provisioning/datasources/arcadapt.yaml").read_text())["datasources"][0]
    postgres = SERVICES["postgres"]["environment"]
    assert source["url"] == "postgres:5432"
    assert source["jsonData"]["database"] == postgres["POSTGRES_DB"]
    assert source["secureJsonData"] == {"password": "$GRAFANA_DATABASE_PASSWORD"}
    assert "GRAFANA_DATABASE_PASSWORD" in SERVICES["grafana"]["environment"]
    assert f"CREATE ROLE {source['user']} " in (ROOT / "ops/postgres/10-reader.sh").read_text()


def test_dashboards_are_mounted_where_they_are_looked_for():
    provider = yaml.safe_load((ROOT / "ops/grafana/provisioning/dashboards/arcadapt.yaml").read_text())["providers"][0]
    mounted = {mount.split(":")[1] for mount in SERVICES["grafana"]["volumes"]}
    assert provider["options"]["path"] in mounted
    assert "/etc/grafana/provisioning" in mounted
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / "ops/grafana/dashboards" / home.name).exists()
