"""What a run records about its machine and packages."""

import platform
from importlib.metadata import version

from workers.environment import environment

__all__: list[str] = []


def test_versions_platform_and_processor_are_recorded() -> None:
    found = environment(accelerators=())
    assert set(found) == {"python", "torch", "numpy", "optuna", "ray", "tangent-studies", "platform", "cpu"}
    assert found["python"] == platform.python_version()
    assert found["torch"] == version("torch")
    assert all(found.values())


def test_gpus_are_recorded_if_packs_use_them() -> None:
    assert environment(accelerators=("L4", "H100"))["gpu"] == "H100, L4"
