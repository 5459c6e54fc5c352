"""A workload whose training loop is the user's own."""

__all__ = ["ScriptWorkload"]

from abc import ABC, abstractmethod

from workers.script.trial import Trial
from workers.workloads.configuration import Configurable


class ScriptWorkload(Configurable, ABC):
    """A training loop of the user's own, which gets everything from a trial and reports to it.

    Tangent decides which configurations are trained and for how many epochs. The script does the rest: data,
    model, steps, evaluation. Its trials are trained one at a time.

    A trial must depend on nothing but its configuration and its seed. The global generators of torch, numpy
    and `random` are seeded before `run` and before each epoch. These, the working directory, the environment
    and torch's global settings are the script's own: what it changes has no effect on other trials.
    """

    @abstractmethod
    def run(self, trial: Trial) -> None:
        """Train one trial: report every epoch of `trial.epochs()`, then return.

        It is called in a thread of its own, once for each part of a trial: a trial that waits at a rung, or
        loses its worker, continues in another call.
        """
