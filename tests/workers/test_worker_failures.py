"""Ray's words for the end of an actor, as version 2.60 says them, in people's words."""

import cloudpickle
import pytest
from ray.exceptions import OutOfMemoryError, RayActorError

from workers.tune import _OutOfMemory
from workers.worker_failures import WorkerFailure, exhausted, hung, of_worker

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
    ("said", "loss"),
    [
        (
            DIED + KILLED,
            WorkerFailure(
                "its worker was lost: the process was killed, as the system does "
                "when memory runs out, or crashed"
            ),
        ),
        (
            DIED + NODE + "unexpectedly: health check failed",
            WorkerFailure("its worker was lost: its machine 10.0.0.7 died or was cut off"),
        ),
        (
            DIED + NODE + "expectedly: received SIGTERM",
            WorkerFailure("its machine 10.0.0.7 left the cluster", is_charged=False),
        ),
        (DIED + LEFT, WorkerFailure("its machine 10.0.0.7 left the cluster", is_charged=False)),
        (
            MEMORY,
            WorkerFailure(
                "its worker was lost: memory ran out on 10.0.0.7, where 30.10 GB of 31.40 GB were "
                "in use, and its process was ended",
                is_own=True,
            ),
        ),
        (
            "",
            WorkerFailure(
                "its worker was lost: the process was killed, as the system does "
                "when memory runs out, or crashed"
            ),
        ),
    ],
)
def test_what_ray_says_of_an_actors_end_is_told_so_that_people_understand_it(
    said: str, loss: WorkerFailure
) -> None:
    assert of_worker(said) == loss


def test_a_pack_that_hung_or_ran_out_of_memory_has_itself_to_blame() -> None:
    assert hung(600) == WorkerFailure(
        "no epoch was finished within 600 s; its process was ended", is_own=True
    )
    assert exhausted("MemoryError: ").is_own


def test_the_memory_monitors_error_is_the_loss_of_an_actor_which_tune_understands() -> None:
    error = _OutOfMemory(MEMORY)
    assert isinstance(error, OutOfMemoryError)
    assert isinstance(error, RayActorError)
    again = cloudpickle.loads(cloudpickle.dumps(error))
    assert (str(again), again.preempted) == (MEMORY, False)
