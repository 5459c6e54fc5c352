"""What a run notes of the machine and the packages that train its study."""

import platform
from importlib.metadata import version

from workers.environment import environment

__all__: list[str] = []


def test_versions_platform_and_processor_are_noted_in_words() -> None:
    found = environment(accelerators=())
    assert set(found) == {"python", "torch", "numpy", "optuna", "ray", "tangent-studies", "platform", "cpu"}
    assert found["python"] == platform.python_version()
    assert found["torch"] == version("torch")
    assert all(found.values())


def test_gpus_are_named_where_packs_get_any() -> None:
    assert environment(accelerators=("L4", "H100"))["gpu"] == "H100, L4"
