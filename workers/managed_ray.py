"""The Ray cluster of one dispatcher: started if need be, watched, and replaced when it ends."""

__all__ = ["ManagedRay"]

import logging
import os
import threading

from studies.cluster_views import MachineView
from workers.local_ray import check_ray
from workers.machine_report import measure_machine
from workers.node import check_token_mode, join, start_head, start_local
from workers.node_process import NodeFailed, NodeProcess
from workers.settings import JOIN, DispatcherSettings

_log = logging.getLogger("tangent.dispatcher")
_FIRST_DELAY_S = 1.0
_MAX_DELAY_S = 30.0


class ManagedRay:
    """Where a dispatcher's runs find Ray, and the node that the dispatcher started for it, if any.

    A `local` Ray that ends is replaced. A node of a cluster is not, because whatever starts the dispatcher
    again also starts its node again.

    Attributes:
        address: `HOST:PORT`; it changes when a local Ray is replaced.
        problem: why no run can use Ray at the moment; None if it can be used.
    """

    def __init__(self, settings: DispatcherSettings) -> None:
        """Prepare; `start` starts what the settings ask for, and `wait_until_ready` waits for it."""
        self._settings = settings
        self._node: NodeProcess | None = None
        self._is_stopping = threading.Event()
        self.address = settings.ray_address
        self.problem: str | None = None

    @property
    def is_replaceable(self) -> bool:
        """Whether a Ray that has ended can be started again by this process."""
        return self._settings.ray_address == "local"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that runs need to join Ray."""
        # A local Ray requires its token, but Ray does not use it by itself for an address.
        return {"RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token")} if self.is_replaceable else {}

    @property
    def has_ended(self) -> bool:
        """Whether the node that was started here has ended, and is not being replaced."""
        return self.problem is None and self._node is not None and self._node.has_ended

    def measure_machine(self) -> MachineView | None:
        """Return the state of this machine; None if no node here lends cores to trials."""
        lends = self.is_replaceable or (self._settings.ray_address == "head" and self._settings.cpus)
        if self._node is None or not lends:
            return None
        return measure_machine(self._node.pid, cpus=self._settings.cpus)

    def start(self) -> None:
        """Start a node, or check that the cluster answers.

        Raises:
            NodeFailed: the node cannot be started.
            RayUnavailable: no cluster answers.
        """
        address, settings = self._settings.ray_address, self._settings
        if address == "local":
            self._node = start_local(cpus=settings.cpus)
        elif address == "head":
            check_token_mode()
            self._node = start_head(
                port=settings.ray_port, node_address=settings.node_address, cpus=settings.cpus or 0
            )
        elif address.startswith(JOIN):
            check_token_mode()
            self._node = join(address.removeprefix(JOIN), node_address=settings.node_address, cpus=0, gpus=0)
        else:
            check_ray(address)

    def wait_until_ready(self) -> None:
        """Wait until the node that `start` started can be used; without one, do nothing.

        Raises:
            NodeFailed: it ended, or took too long.
        """
        if self._node is not None:
            self._node.wait_until_ready()
            self.address = self._node.address

    def replace(self, problem: str) -> None:
        """End what is left of a local Ray and start another, in another thread.

        Args:
            problem: why it is replaced; `problem` until it can be used again.
        """
        self.problem = problem
        threading.Thread(target=self._replace, name="ray-replacement", daemon=True).start()

    def stop(self) -> None:
        """Stop the node after its packs have saved checkpoints."""
        self._is_stopping.set()
        if self._node is not None:
            self._node.stop()

    def _replace(self) -> None:
        delay_s = _FIRST_DELAY_S
        while not self._is_stopping.is_set():
            assert self._node is not None, "only a Ray that was started here is replaced"
            self._node.kill()
            try:
                self.start()
                self.wait_until_ready()
            except (NodeFailed, OSError) as error:
                self.problem = str(error)
                if self._is_stopping.is_set():
                    return
                _log.error("%s; trying again in %g s", error, delay_s)
                self._is_stopping.wait(delay_s)
                delay_s = min(_MAX_DELAY_S, 2 * delay_s)
            else:
                self.problem = None
                _log.info("Ray works again at %s", self.address)
                return
