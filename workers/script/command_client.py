"""The client of a program that a worker has started for a trial: one file that needs only Python's library.

A program that runs in another environment may have a copy of it. What it says to the worker are lines of JSON
on a Unix socket. `TANGENT_TRIAL` names a file with the trial and the socket's path.
"""

__all__ = ["VARIABLE", "CommandTrial", "WorkerConnection", "is_ours"]

import atexit
import json
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

VARIABLE = "TANGENT_TRIAL"
"""Environment variable with the path of the file that describes a program's trial."""

_GOES_ON_EVERY_S = 5.0
# A program's line is the innermost that is not in these files.
_OURS = {"program.py", "trial.py"}


class WorkerConnection:
    """A program's connection to its worker, which owns the trial's budget; it is made with the first message.

    Each process of a program has its own.

    Attributes:
        trial: what the worker has written about the trial.
    """

    def __init__(self) -> None:
        """Read what the worker that has started this program has written.

        Raises:
            RuntimeError: no worker has started it.
        """
        path = os.environ.get(VARIABLE)
        if path is None:
            raise RuntimeError(
                f"expected a program that a Tangent worker has started for a trial, but {VARIABLE} is not "
                "set; submit a study with the workload of this program"
            )
        self.trial: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        self._socket: socket.socket | None = None
        self._went_on_at = time.monotonic()

    def end_epoch(
        self,
        report: Mapping[str, object],
        *,
        test: Callable[[], object],
        state: Callable[[], str] | None,
    ) -> bool:
        """Report an epoch, wait until the program may go on, and return whether its loop is to end.

        Args:
            report: `validation`, `train_loss` and other fields.
            test: returns the test values, if they count.
            state: writes what the program needs to continue to a file, and returns its path; None if it
                cannot continue.

        Raises:
            ConnectionError: the worker has ended the trial.
        """
        self._send({"report": {**report, "place": _place()}, "saves": state is not None})
        assert self._socket is not None
        for line in self._socket.makefile("r", encoding="utf-8"):
            order: dict[str, Any] = json.loads(line)
            if order["do"] == "test":
                self._send({"test": test()})
            elif order["do"] == "state" and state is not None:
                self._send({"state": state()})
            else:
                return bool(order["is_over"])
        raise ConnectionError("the worker has ended this trial")

    def goes_on(self, step: int | None) -> None:
        """Tell the worker every few seconds that the program goes on, and its steps since the last epoch."""
        now = time.monotonic()
        if now - self._went_on_at > _GOES_ON_EVERY_S:
            self._went_on_at = now
            self._send({"step": step})

    def _send(self, message: Mapping[str, object]) -> None:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(self.trial["socket"])
        self._socket.sendall(json.dumps(message).encode() + b"\n")


class CommandTrial:
    """The trial of a program without torch; with torch, `from tangent import trial` does more.

        trial = CommandTrial()
        for epoch in trial.epochs():
            ...
            trial.report(validation={"accuracy": 0.9}, test={"accuracy": 0.91})

    In a study whose budget counts steps, loop over `steps()`, and report where `is_due` is true.

    Attributes:
        id, seed, device, optimizer_name: of the trial; the device is `cpu` or `cuda:0`.
        config: its configuration by name.
        folder: a folder of its own, removed after the program's end.
        budget: epochs of the whole trial or, in a budget of steps, its steps.
        evaluate_every: steps from one report to the next; None in a budget of epochs.
        rank, world_size: number of this process among those that train the trial, from 0, and how many. Only
            the first one has to report in a loop over `epochs()` or `steps()`.
    """

    def __init__(self) -> None:
        """Read the trial; raise RuntimeError if no worker has started this program."""
        self._connection = WorkerConnection()
        trial = self._connection.trial
        self.id: str = trial["id"]
        self.seed: int = trial["seed"]
        self.device: str = trial["device"]
        self.optimizer_name: str = trial["optimizer"]
        self.config: dict[str, Any] = trial["config"]
        self.folder = Path(trial["folder"])
        self.evaluate_every: int | None = trial["interval_steps"]
        self.budget = int(trial["epochs"]) * (self.evaluate_every or 1)
        self.rank, self.world_size = int(trial["rank"]), int(trial["world_size"])
        self._done, self._last = 0, int(trial["to_epoch"])
        # Steps from one report to the next, if that is known, and the step that is being taken.
        self._each, self._step = self.evaluate_every, 0
        self._state: str | None = None
        self._pending: tuple[dict[str, object], object] | None = None
        self._loop = ""
        atexit.register(self._end_pending)

    @property
    def is_over(self) -> bool:
        """Whether the loop is to end now; `epochs()` and `steps()` do by themselves."""
        return self._done >= self._last

    @property
    def is_main(self) -> bool:
        """Whether this is the process whose reports and files count."""
        return self.rank == 0

    @property
    def is_due(self) -> bool:
        """Whether a report is due: in a loop over `steps()` in the last step of each interval."""
        return self._loop != "steps" or self._step == (self._done + 1) * (self._each or 1)

    def epochs(self) -> Iterator[int]:
        """Yield the epochs to train, counted from 1, which continue after those of a restored state."""
        if self.evaluate_every is not None:
            raise ValueError(
                f"expected a loop over trial.steps() in a budget of {self.budget} steps, got one over "
                "trial.epochs(); loop over the steps and report where trial.is_due is true, or give the "
                "study a budget of epochs"
            )
        self._loop = "epochs"
        try:
            while not self.is_over:
                yield self._done + 1
                self._end_body()
        finally:
            self._loop = ""

    def steps(self, *, steps_per_epoch: int | None = None) -> Iterator[int]:
        """Yield the steps to train, counted from 1, in place of `epochs()`.

        Args:
            steps_per_epoch: lets the loop train in a budget of epochs too; a budget of steps replaces it.
        """
        each = self.evaluate_every or steps_per_epoch
        if each is None or each < 1:
            raise ValueError(
                f"expected steps_per_epoch of at least 1 in trial.steps, because the study's budget counts "
                f"epochs ({self.budget}), got {each}; pass it, or give the study a budget of steps: "
                "{steps: 2000, evaluate_every: 200}"
            )
        self._loop, self._each, self._step = "steps", each, self._done * each
        try:
            while not self.is_over:
                self._step += 1
                yield self._step
                self._connection.goes_on(self._step - self._done * each)
                if self.is_due:
                    self._end_body()
        finally:
            self._loop, self._each = "", self.evaluate_every

    def report(
        self,
        *,
        validation: object,
        test: object = None,
        train_loss: float | None = None,
        step: int | None = None,
    ) -> None:
        """Report an epoch: numbers by metric, or the objective by itself; `test` may be a function.

        In a loop over `epochs()` or `steps()` the epoch ends with the loop's body, else with this call, which
        in a budget of steps must name the step.
        """
        if self._loop and self._pending is not None:
            raise ValueError(f"expected one report of {self._place}, got a second")
        if self._loop == "steps":
            step = self._step if step is None else step
            if step != self._step or not self.is_due:
                raise ValueError(
                    f"expected the next report after step {(self._done + 1) * (self._each or 1)}, because "
                    f"one is due every {self._each} steps, got one after step {step}; report where "
                    "trial.is_due is true"
                )
        self._end_pending()
        self._pending = {"validation": validation, "train_loss": train_loss, "step": step}, test
        if not self._loop:
            self._end_pending()

    def save(self, path: str | Path) -> None:
        """Name a file with everything that the program needs to continue after this epoch.

        It is read at the end of the epoch, if a checkpoint is due. Call it in each epoch.
        """
        self._state = str(Path(path).absolute())

    def restore(self) -> Path | None:
        """Return a file with what was saved last, or None; call it before the first epoch.

        A program that does not call it starts over.
        """
        stored = self._connection.trial["state"]
        if stored is None:
            return None
        self._done = int(self._connection.trial["from_epoch"])
        return Path(stored)

    @property
    def _place(self) -> str:
        each = self.evaluate_every
        return f"epoch {self._done + 1}" if each is None else f"step {(self._done + 1) * each}"

    def _end_body(self) -> None:
        if self._pending is None:
            if self.is_main:
                raise ValueError(f"expected a report of {self._place}, got none")
            step = self._step if self._loop == "steps" else None
            self._pending = {"validation": None, "train_loss": None, "step": step}, None
        self._end_pending()

    def _end_pending(self) -> None:
        if self._pending is None:
            return
        report, test = self._pending
        self._pending = None
        path, self._state = self._state, None
        self._done += 1
        if self._done > int(self._connection.trial["from_epoch"]):
            self._connection.end_epoch(
                report,
                test=lambda: test() if callable(test) else test,
                state=None if path is None else lambda: path,
            )


def is_ours(file: str) -> bool:
    """Return whether a file of a traceback is not the program's but the client's."""
    path = Path(file)
    return path.name == Path(__file__).name or (path.name in _OURS and path.parent == Path(__file__).parent)


def _place() -> str:
    """Return the file and line of the program that is being run."""
    for frame in reversed(traceback.extract_stack()):
        if not is_ours(frame.filename):
            return f"{Path(frame.filename).name}, line {frame.lineno}"
    return ""
