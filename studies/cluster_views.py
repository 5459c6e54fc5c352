"""Views of the machines that train, of the dispatchers that start runs there, and of the queue."""

__all__ = ["ClusterView", "DispatcherView", "MachineView", "NodesView", "QueuedStudy"]

from datetime import datetime

from pydantic import Field

from studies.frozen_model import FrozenModel
from studies.states import StudyState


class MachineView(FrozenModel):
    """A machine that trains, as its dispatcher last measured it."""

    cpus: int = Field(description="Cores that it lends to trials.")
    cpu_share: float = Field(description="Fraction of all of its cores that were busy, from 0 to 1.")
    gpus: int = Field(default=0, description="Number of its GPUs.")
    memory_bytes: int = Field(gt=0, description="Its memory.")
    memory_used_bytes: int = Field(description="How much of that is in use.")
    workers: int = Field(default=0, description="Processes that train a pack.")
    warm_workers: int = Field(
        default=0, description="Processes that have imported what a pack needs and wait for one."
    )
    warm_bytes: int = Field(default=0, description="Memory of the warm processes, without what they share.")


class NodesView(FrozenModel):
    """The machines of one Ray cluster together, as a run on it last saw them."""

    machines: int = Field(description="Machines that lend cores to trials.")
    cpus: float = Field(description="Cores that they lend.")
    cpus_used: float = Field(description="How many of these packs occupy.")
    gpus: float = Field(default=0, description="GPUs that they lend.")
    gpus_used: float = Field(default=0, description="How many of these packs occupy.")


class DispatcherView(FrozenModel):
    """A dispatcher, without its name, which is the name of a machine."""

    seen_at: datetime = Field(description="When it stored its last heartbeat.")
    is_alive: bool = Field(description="Whether that was within the last 30 seconds.")
    problem: str | None = Field(description="Why it can start no run; none if it can.")
    machine: MachineView | None = Field(
        default=None, description="The machine that it runs on; none if it trains on others only."
    )


class QueuedStudy(FrozenModel):
    """A study that waits for a run."""

    id: str = Field(description="Id of the study.")
    name: str = Field(description="Its title.")
    owner: str | None = Field(description="Name of the token that submitted it; none on an open service.")
    priority: str = Field(description="Its priority: low, normal or high.")
    since: datetime = Field(description="When it was queued.")


class ClusterView(FrozenModel):
    """What trains at the moment, and what waits."""

    at: datetime = Field(description="When this was read.")
    problems: tuple[str, ...] = Field(description="What is wrong, each in a sentence; empty if all is well.")
    dispatchers: tuple[DispatcherView, ...] = Field(
        description="The dispatchers that were heard in the last day, those that were heard last first."
    )
    nodes: tuple[NodesView, ...] = Field(
        default=(), description="Each Ray cluster on which a run was active in the last minute."
    )
    studies: dict[StudyState, int] = Field(description="Number of open studies by state.")
    trials_running: int = Field(description="Trials in training.")
    packs_running: int = Field(description="Packs in training, according to their last reports.")
    queued: int = Field(description="Number of studies that wait for a run.")
    queue: tuple[QueuedStudy, ...] = Field(
        description="The first of them, in the order in which they will start; at most 20."
    )
