"""The guarantees of the images, checked against the Dockerfile."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
TARGETS = ["optuna-dashboard", "service", "worker", "worker-cuda"]


def stages() -> dict[str, list[str]]:
    """Return the instructions of each stage, one per line, without comments."""
    text = "\n".join(
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")
    )
    lines = [
        re.sub(r"\s+", " ", line).strip() for line in re.sub(r"\\\n", " ", text).splitlines() if line.strip()
    ]
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        if line.startswith("FROM "):
            name = line.rpartition(" AS ")[2]
        found.setdefault(name, []).append(line)
    return found


def closure(names: list[str]) -> set[str]:
    """Return the names of all installed distributions that the requirements depend on."""
    seen: set[str] = set()
    left = [Requirement(name) for name in names]
    while left:
        requirement = left.pop()
        extras = requirement.extras or {""}
        if requirement.marker is not None and not any(
            requirement.marker.evaluate({"extra": extra}) for extra in extras
        ):
            continue
        key = f"{requirement.name.lower()}[{','.join(sorted(requirement.extras))}]"
        if key in seen:
            continue
        seen.add(key)
        try:
            further = [Requirement(name) for name in requires(requirement.name) or []]
        except PackageNotFoundError:
            continue
        left += [
            r
            for r in further
            if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in extras)
        ]
        for r in left:
            r.marker = None
    return {key.partition("[")[0] for key in seen}


def test_the_dockerfile_has_every_target() -> None:
    assert set(TARGETS) <= stages().keys()


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_does_not_run_as_root_and_has_a_health_check(target: str) -> None:
    instructions = stages()[target]
    user = max(position for position, line in enumerate(instructions) if line.startswith("USER "))
    assert instructions[user] == "USER 10001:10001"
    assert not [line for line in instructions[user:] if line.startswith(("RUN", "COPY", "ADD"))]
    assert [line for line in instructions if line.startswith("HEALTHCHECK ")]


def test_everything_that_pip_installs_is_pinned() -> None:
    installs = [
        command
        for lines in stages().values()
        for line in lines
        for command in re.findall(r"pip install[^;&]*", line)
    ]
    assert len(installs) >= 6
    for command in installs:
        assert (
            "-c constraints.txt" in command
            or "-c /requirements/constraints.txt" in command
            or "--no-deps /wheel/*.whl" in command
        ), command


def test_constraints_contain_everything_that_images_install() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    asked = [
        *project["dependencies"],
        *(
            name
            for extra in ("service", "workers", "s3", "debug")
            for name in project["optional-dependencies"][extra]
        ),
    ]
    assert not {Requirement(name).name.lower().replace("_", "-") for name in asked} - pinned


def test_the_service_image_has_neither_torch_nor_ray() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    brought = closure([*project["dependencies"], *project["optional-dependencies"]["service"]])
    assert {"fastapi", "sqlalchemy", "optuna", "psycopg-binary"} <= brought
    assert not brought & {"torch", "ray", "numba", "scikit-learn", "triton"}
    assert not [line for line in stages()["service"] if "workers.txt" in line]


def test_torch_is_installed_before_packages_that_depend_on_it() -> None:
    for target in ("worker", "worker-cuda"):
        installs = [line for line in stages()[target] if "pip install" in line]
        assert installs[0].endswith("torch")
        assert "workers.txt" in installs[1]


def test_the_source_code_is_the_last_layer() -> None:
    for target in ("service", "worker", "worker-cuda"):
        changes = [line for line in stages()[target] if line.startswith(("RUN", "COPY"))]
        assert [line.partition(" ")[0] for line in changes[-2:]] == ["COPY", "RUN"]
        assert "/wheel" in changes[-1]


def test_the_dockerfile_builds_without_buildkit() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert not re.findall(r"^# *syntax=|RUN --|COPY --(?!from)|<<", text, flags=re.MULTILINE)


def test_dockerignore_lets_every_copied_file_through() -> None:
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        name
        for lines in stages().values()
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in allowed)
