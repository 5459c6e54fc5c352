"""How Ray 2.60 reports the end of an actor, and the reasons that users read."""

import cloudpickle
import pytest
from ray.exceptions import OutOfMemoryError, RayActorError

from workers.tune import _ActorOutOfMemory
from workers.worker_failures import WorkerFailure, from_ray, hung, out_of_memory

__all__: list[str] = []

DIED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: "
    "ResourceTrainable\n\tactor_id: 1f\n\tpid: 7\n\tip: 10.0.0.7\n"
)
KILLED = (
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit "
    "detail: Worker unexpectedly exits with a connection error code 2. End of file. Some common causes "
    "include: (1) the process was killed by the OOM killer due to high memory usage, (2) ray stop --force "
    "was called, or (3) the worker crashed unexpectedly due to SIGSEGV or another unexpected error."
)
NODE = "The actor died because its node has died. Node Id: 5c\n\tthe actor's node was terminated "
LEFT = (
    "The actor is dead because its worker process has died. Worker exit type: INTENDED_USER_EXIT Worker "
    "exit detail: exit_actor() is called."
)
MEMORY = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.7, ID: "
    "5c) was 30.10GB used / 31.40GB limit (0.95)"
)


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        (
            DIED + KILLED,
            WorkerFailure(
                "its worker was lost: the process crashed, or the system killed it because memory ran out",
                has_died=True,
            ),
        ),
        (
            DIED + NODE + "unexpectedly: health check failed",
            WorkerFailure("its worker was lost: its machine 10.0.0.7 died or became unreachable"),
        ),
        (
            DIED + NODE + "expectedly: received SIGTERM",
            WorkerFailure("its machine 10.0.0.7 left the cluster", is_charged=False),
        ),
        (DIED + LEFT, WorkerFailure("its machine 10.0.0.7 left the cluster", is_charged=False)),
        (
            MEMORY,
            WorkerFailure(
                "its worker was killed: 10.0.0.7 ran out of memory (30.10 of 31.40 GB in use)",
                is_own_fault=True,
                has_died=True,
            ),
        ),
        (
            "",
            WorkerFailure(
                "its worker was lost: the process crashed, or the system killed it because memory ran out",
                has_died=True,
            ),
        ),
    ],
)
def test_rays_error_text_becomes_a_reason_that_users_understand(text: str, failure: WorkerFailure) -> None:
    assert from_ray(text) == failure


def test_a_pack_that_hung_or_ran_out_of_memory_is_at_fault_itself() -> None:
    assert hung(600) == WorkerFailure(
        "no epoch finished within 600 s, so its process was killed", is_own_fault=True, has_died=True
    )
    assert out_of_memory("MemoryError: ").is_own_fault


def test_tune_treats_the_memory_monitors_error_as_a_lost_actor() -> None:
    error = _ActorOutOfMemory(MEMORY)
    assert isinstance(error, OutOfMemoryError)
    assert isinstance(error, RayActorError)
    again = cloudpickle.loads(cloudpickle.dumps(error))
    assert (str(again), again.preempted) == (MEMORY, False)
