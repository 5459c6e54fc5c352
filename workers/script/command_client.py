"""The client of a program that a worker has started for a trial: one file that needs only Python's library.

A program that runs in another environment may have a copy of it. What it says to the worker are lines of JSON
on a Unix socket. `TANGENT_TRIAL` names a file with the trial and the socket's path.
"""

__all__ = ["VARIABLE", "CommandTrial", "WorkerConnection"]

import atexit
import json
import os
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

VARIABLE = "TANGENT_TRIAL"
"""Environment variable with the path of the file that describes a program's trial."""

# A program's line is the first that is not in these files.
_OURS = {Path(__file__), Path(__file__).with_name("program.py"), Path(__file__).with_name("trial.py")}


class WorkerConnection:
    """A program's connection to its worker, which owns the trial's budget; it is made with the first report.

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

    Attributes:
        id, seed, device, optimizer_name: of the trial; the device is `cpu` or `cuda:0`.
        config: its configuration by name.
        folder: a folder of its own, removed after the program's end.
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
        self._done, self._last = 0, int(trial["to_epoch"])
        self._state: str | None = None
        self._pending: tuple[dict[str, object], object] | None = None
        self._is_in_loop = False
        atexit.register(self._end_pending)

    @property
    def is_over(self) -> bool:
        """Whether the loop is to end now; `epochs()` does by itself."""
        return self._done >= self._last

    def epochs(self) -> Iterator[int]:
        """Yield the epochs to train, counted from 1, which continue after those of a restored state."""
        self._is_in_loop = True
        try:
            while not self.is_over:
                yield self._done + 1
                if self._pending is None:
                    raise ValueError(f"expected a report of epoch {self._done + 1}, got none")
                self._end_pending()
        finally:
            self._is_in_loop = False

    def report(self, *, validation: object, test: object = None, train_loss: float | None = None) -> None:
        """Report an epoch: numbers by metric, or the objective by itself; `test` may be a function.

        In a loop over `epochs()` the epoch ends with the loop's body, else with this call.
        """
        if self._is_in_loop and self._pending is not None:
            raise ValueError(f"expected one report of epoch {self._done + 1}, got a second")
        self._end_pending()
        self._pending = {"validation": validation, "train_loss": train_loss}, test
        if not self._is_in_loop:
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


def _place() -> str:
    """Return the file and line of the program that is being run."""
    for frame in reversed(traceback.extract_stack()):
        if Path(frame.filename) not in _OURS:
            return f"{Path(frame.filename).name}, line {frame.lineno}"
    return ""
