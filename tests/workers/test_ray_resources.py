"""The resources of a pack that a study may ask for, compared with what Ray accepts."""

import random
import shutil
import tempfile
from collections.abc import Callable, Generator
from typing import Any, cast

import pytest
import ray
from catalogs import catalog, study_body
from ray._common.ray_option_utils import actor_options

from studies.errors import SpecInvalid
from studies.resolve import resolve
from studies.spec import parse_spec

__all__: list[str] = []

_ray = cast("Any", ray)
BOUNDARIES = [0.0, 1e-300, 1e-5, 9.99e-5, 0.0001, 0.00015, 0.0002, 1 / 3, 0.5, 0.9999, 0.99999, 1.0]
ABOVE_ONE = [1.00001, 1.5, 2.0, 2.5, 64.0]
NAMES = {"cpus_per_pack": "num_cpus", "gpus_per_pack": "num_gpus"}


def refused(name: str, amount: float) -> set[str]:
    """Return the pointers to the faults of a study with this resource."""
    try:
        resolve(parse_spec(study_body(resources={name: amount})), catalog())
    except SpecInvalid as error:
        return {problem.pointer for problem in error.problems}
    return set()


def ray_refuses(name: str, amount: float) -> bool:
    """Return whether Ray refuses an actor with this resource before it looks for a place."""
    try:
        actor_options[NAMES[name]].validate(NAMES[name], amount)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("name", NAMES)
def test_a_study_may_ask_for_exactly_what_ray_can_reserve(name: str) -> None:
    amounts = [*BOUNDARIES, *(10 ** random.Random(1).uniform(-6, 0) for _ in range(200))]
    # A pack without a CPU is refused for another reason.
    for amount in amounts if name == "gpus_per_pack" else [*amounts[1:], *ABOVE_ONE]:
        expected = {f"/resources/{name}"} if ray_refuses(name, amount) else set()
        assert refused(name, amount) == expected, amount


@pytest.mark.parametrize("amount", ABOVE_ONE)
def test_a_study_may_ask_for_one_gpu_at_most_per_pack(amount: float) -> None:
    assert refused("gpus_per_pack", amount) == {"/resources/gpus_per_pack"}


@pytest.fixture
def reserved() -> Generator[Callable[[str, float], bool]]:
    """Whether a Ray with as many CPUs and GPUs as the table asks for runs a task with a resource."""
    # The path of pytest's own folder is too long for Ray's sockets.
    folder = tempfile.mkdtemp(prefix="ray-")
    _ray.init(num_cpus=2, num_gpus=64, include_dashboard=False, log_to_driver=False, _temp_dir=folder)

    @_ray.remote
    def task() -> bool:
        return True

    def run(name: str, amount: float) -> bool:
        try:
            return _ray.get(task.options(**{"num_cpus": 0, NAMES[name]: amount}).remote(), timeout=60)
        except ValueError:
            return False

    yield run
    _ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_a_running_ray_reserves_what_a_study_may_ask_for_and_no_fraction_of_several_gpus(
    reserved: Callable[[str, float], bool],
) -> None:
    for amount in (*BOUNDARIES[1:], 1.5, 2.0):
        assert reserved("cpus_per_pack", amount) is not bool(refused("cpus_per_pack", amount))
    for amount in (*BOUNDARIES, *ABOVE_ONE):
        is_whole = amount <= 1 or amount.is_integer()
        expected = is_whole and not (amount <= 1 and refused("gpus_per_pack", amount))
        assert reserved("gpus_per_pack", amount) is expected, amount
