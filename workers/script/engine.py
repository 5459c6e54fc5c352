"""The engine of script workloads: each member's loop runs in a thread of its own, one at a time.

In a trial of several processes each has such a loop. All wait after each epoch, and what the first one has
reported becomes the report of all.
"""

__all__ = ["ScriptEngine"]

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from studies.searchable import WORKLOAD
from workers.named_metrics import named_metrics
from workers.optimizers import OptimizerEntry
from workers.pack_protocol import Pack
from workers.results import EpochResult, script_result
from workers.script.arm_recipe import EntryRecipe
from workers.script.global_state import GlobalState
from workers.script.trial import Trial
from workers.script.trial_task import ForeignState, ScriptReport, TrialTask, model_of, states_of
from workers.seeding import initialisation_seed, seed_generators
from workers.signs_of_life import note
from workers.trial_files import TrialFolder
from workers.trial_processes import TrialProcesses, trial_processes
from workers.workload_errors import CannotTrain
from workers.workloads import ScriptWorkload, configuration_of

_log = logging.getLogger("tangent.training")
# How long a loop may take to end after it was stopped in the middle of its trial.
_STOP_WITHIN_S = 10.0

_Command = Literal["go on", "test", "stop"]


class ScriptEngine:
    """Trains the members of a pack by the loops of a workload, one after the other.

    Args:
        pack: the members and their settings.
        workload: what to train.
        entry: the optimizer.
        device: where to train.
        states: each member's checkpoint; None for all of them before the first epoch.
    """

    def __init__(
        self,
        pack: Pack,
        *,
        workload: ScriptWorkload,
        entry: OptimizerEntry,
        device: torch.device,
        states: Sequence[Mapping[str, Any] | None],
    ) -> None:
        self._loops: list[_Loop] = []
        metrics, processes = named_metrics(workload, pack.objective_metric), trial_processes()
        for member, state in zip(pack.members, states, strict=True):
            training = pack.settings_of(member)
            task = TrialTask(
                trial_id=member.trial_id,
                workload=pack.workload,
                optimizer=pack.optimizer,
                parameters={
                    **{
                        WORKLOAD + name: value
                        for name, value in configuration_of(workload.card, member.parameters).items()
                    },
                    **member.parameters,
                },
                training=training,
                seed=member.seed,
                metrics=metrics.names,
                from_epoch=pack.from_epoch,
                to_epoch=pack.to_epoch,
                epochs=pack.epochs,
                interval_steps=pack.interval_steps,
                rank=processes.rank,
                world_size=processes.size,
            )
            recipe = EntryRecipe(entry, parameters=member.parameters, training=training)
            self._loops.append(
                _Loop(workload, task, recipe=recipe, device=device, processes=processes, state=state)
            )

    def train_epoch(self, epoch: int, *, alive: Sequence[int]) -> list[EpochResult]:
        """Train one more epoch, counted from 1, and return the results in the order of `alive`.

        The loops of other members are stopped.
        """
        for index, loop in enumerate(self._loops):
            if index not in alive:
                loop.stop()
        return [self._loops[member].train_epoch(epoch) for member in alive]

    def test(self, members: Sequence[int]) -> list[list[float]]:
        """Return these members' test metrics after the epoch just trained, the objective first."""
        return [self._loops[member].test() for member in members]

    def checkpoint(self, member: int) -> dict[str, Any]:
        """Return what a member's loop has saved in the epoch just trained."""
        return self._loops[member].checkpoint()

    def weights(self, member: int) -> dict[str, Any]:
        """Return the state of the model that a member's loop has saved in the epoch just trained.

        That is what it has saved as `model`: everything that it has saved if nothing has that name, and
        nothing if it has saved nothing.
        """
        return self._loops[member].weights()

    def folder(self, member: int) -> TrialFolder:
        """Return a member's own folder."""
        return self._loops[member].folder

    def can_resume(self, member: int) -> bool:
        """Return whether a member's loop has saved anything in the epoch just trained."""
        return self._loops[member].has_saved

    def finish(self, members: Sequence[int]) -> None:
        """Let the loops of these members end, after the pack's last epoch."""
        for member in members:
            self._loops[member].finish()

    def close(self) -> None:
        """Stop the loops that have not ended."""
        for loop in self._loops:
            loop.stop()
            loop.folder.remove()


class _Stopped(BaseException):
    """The trial has ended: the user's loop is to unwind, past any `except Exception`."""


@dataclass(frozen=True)
class _Ended:
    """The user's loop has ended, with an error or without."""

    error: BaseException | None


class _Loop:
    """The loop of one member: its thread, its global state and its clock. It hosts its trial."""

    def __init__(
        self,
        workload: ScriptWorkload,
        task: TrialTask,
        *,
        recipe: EntryRecipe,
        device: torch.device,
        processes: TrialProcesses,
        state: Mapping[str, Any] | None,
    ) -> None:
        self._workload, self._task, self._device, self._processes = workload, task, device, processes
        self._elapsed_s = float(state["elapsed_s"]) if state is not None else 0.0
        self.folder = TrialFolder()
        self._trial = Trial(
            task,
            folder=self.folder,
            device=device,
            recipe=recipe,
            host=self,
            state=state["script"] if state is not None else None,
        )
        self._commands: queue.SimpleQueue[_Command] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[ScriptReport | Mapping[str, float] | _Ended] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._globals: GlobalState | None = None
        # What this process's own loop has saved, and its states once they were read.
        self._saved: Mapping[str, Any] | None = None
        self._states: Mapping[str, Any] | None = None
        self.has_saved = False
        self._has_ended = False

    def train_epoch(self, epoch: int) -> EpochResult:
        """Let the loop train one more epoch, and return its result."""
        started = time.perf_counter()
        event = self._switch("go on")
        self._elapsed_s += time.perf_counter() - started
        assert isinstance(event, ScriptReport)
        self._check_group()
        self._saved, self._states = event.state, None
        own, has_saved = replace(event, state=None), event.state is not None
        event, self.has_saved = self._processes.from_main(lambda: (own, has_saved))
        return script_result(
            list(event.validation.values()),
            metrics=named_metrics(self._workload, self._task.metrics[0]),
            epoch=epoch,
            elapsed_s=self._elapsed_s,
            lr=event.lr,
            train_loss=event.train_loss,
            validation_loss=event.loss,
            probes=event.probes,
            initial_lr=float(self._task.parameters.get("lr", math.nan)),
        )

    def test(self) -> list[float]:
        """Return the test metrics of the epoch just trained, the objective first."""
        own = self._switch("test")
        assert isinstance(own, Mapping)
        values = self._processes.from_main(lambda: own)
        return [values[name] for name in self._task.metrics]

    def checkpoint(self) -> dict[str, Any]:
        """Return what the loop has saved in the epoch just trained, and the clock."""
        if self._states is None and self._saved is not None:
            # Once only: processes may read a state that they share together.
            self._states = states_of(self._saved)
        return {"script": self._states, "elapsed_s": self._elapsed_s}

    def weights(self) -> dict[str, Any]:
        """Return the state of the model that the loop has saved in the epoch just trained."""
        for part in (self._saved or {}).values():
            found = part.weights() if isinstance(part, ForeignState) else None
            if found is not None:
                return dict(found)
        return dict(model_of(self.checkpoint()["script"] or {}))

    def finish(self) -> None:
        """Let the loop end by itself."""
        if not self._has_ended:
            self._switch("go on")
            self._check_group()

    def stop(self) -> None:
        """End the loop where it waits."""
        if self._thread is None or self._has_ended:
            return
        try:
            self._switch("stop", timeout_s=_STOP_WITHIN_S)
        except queue.Empty:
            _log.warning(
                "the loop of trial %s goes on although its trial has ended; do not catch BaseException there",
                self._task.trial_id,
            )
        # The trial has its outcome. Whatever the loop raises while it unwinds changes nothing.
        except Exception:  # noqa: BLE001
            _log.warning("an error after the end of trial %s", self._task.trial_id, exc_info=True)
        self._has_ended = True

    def epoch_ended(self, report: ScriptReport, test: Callable[[], Mapping[str, float]]) -> None:
        """Pass on an epoch's report from the loop's thread, and wait until the loop may go on."""
        self._events.put(report)
        while (command := self._commands.get()) == "test":
            self._events.put(test())
        if command == "stop":
            raise _Stopped

    def heard(self, step: int | None) -> None:
        """Note that the loop goes on."""
        note((self._task.trial_id,), step)

    def _switch(
        self, command: _Command, *, timeout_s: float | None = None
    ) -> ScriptReport | Mapping[str, float] | _Ended:
        """Let the loop's thread run until it waits again or has ended, and return what it says.

        Raises:
            queue.Empty: it took longer than `timeout_s`.
        """
        before = GlobalState.current(self._device)
        if self._globals is not None:
            self._globals.apply()
        try:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"trial {self._task.trial_id}", daemon=True
                )
                self._thread.start()
            else:
                self._commands.put(command)
            event = self._events.get(timeout=timeout_s)
            self._globals = GlobalState.current(self._device)
        finally:
            before.apply()
        if isinstance(event, _Ended):
            self._has_ended = True
            if event.error is not None:
                raise event.error
        return event

    def _check_group(self) -> None:
        if trial_processes() != self._processes:
            raise CannotTrain(
                "expected the process group of a trial of several processes to stay initialised, but run has "
                "destroyed it; remove torch.distributed.destroy_process_group: the group ends with the trial",
                function=self._workload.run,
            )

    def _run(self) -> None:
        """Run the user's loop; the body of the thread."""
        error: BaseException | None = None
        try:
            seed_generators(initialisation_seed(self._task.seed), device=self._device)
            self._workload.run(self._trial)
            self._trial.close()
        except _Stopped:
            pass
        except Exception as raised:  # noqa: BLE001 # a script may raise anything
            error = raised
        # A worker must not end with its script, which may call `sys.exit`.
        except BaseException as raised:  # noqa: BLE001
            told = CannotTrain(f"expected run to return, got {type(raised).__name__}: {raised}")
            error = told.with_traceback(raised.__traceback__)
        self._events.put(_Ended(error))
