"""A program that trains one trial: its process, its reports, its output, and the end of its process tree."""

__all__ = ["PATTERN_GROUPS", "CommandReport", "RunningCommand", "StateFile"]

import codecs
import json
import os
import re
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

import psutil
import torch
from torch import Tensor

from studies.process_tree import end_descendants
from workers.checkpoints import CheckpointUnusable, load
from workers.script.command_client import VARIABLE, is_ours
from workers.script.command_messages import CommandMessages
from workers.script.trial import Trial
from workers.script.trial_task import ForeignState, Probes, model_of
from workers.tensor_states import mapped
from workers.workload_errors import CannotTrain, CommandFailed

PATTERN_GROUPS: Final = frozenset({"validation", "test", "validation_loss", "train_loss", "step"})
"""The groups that a pattern may name."""

_FRAME: Final = re.compile(r'File "(.+)", line (\d+)')
_MAX_LINE: Final = 10_000
_CHUNK: Final = 1 << 16
_POLL_S: Final = 0.2
_TAIL_LINES: Final = 40


@dataclass(frozen=True, kw_only=True)
class CommandReport:
    """A program's report of an epoch, as it came."""

    validation: object
    test: object
    train_loss: object = None
    step: object = None
    lr: float | None = None
    probes: Probes | None = None
    saves: bool = False
    place: str = ""


class StateFile(ForeignState):
    """What a program has saved, asked for only when a checkpoint is due."""

    def __init__(self, program: "RunningCommand") -> None:
        self._program = program
        self._path: Path | None = None

    def state_dict(self) -> dict[str, Tensor]:
        """Return the bytes of the program's file, mapped into memory."""
        return {"bytes": mapped(self._file())}

    def weights(self) -> Mapping[str, Any] | None:
        """Return what a program has saved as `model` by `from tangent import trial`; None for others."""
        try:
            return model_of(load(str(self._file())))
        except CheckpointUnusable:
            return None

    def _file(self) -> Path:
        # The program would write it again.
        self._path = self._path or Path(str(self._program.ask("state")))
        return self._path


class RunningCommand:
    """A program that trains one trial; it ends, with all that it has started, with a `with` block."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        trial: Trial,
        directory: str | Path | None,
        pattern: re.Pattern[str] | None,
        stored: Path | None,
        environment: Mapping[str, str],
    ) -> None:
        """Prepare a program; it runs within a `with` block.

        Args:
            arguments: the program and its arguments.
            trial: its trial.
            directory: where it runs; None for the trial's folder.
            pattern: finds reports in its output; None if it reports itself.
            stored: what it has saved before; None if it begins.
            environment: variables that it gets besides the worker's.
        """
        self._arguments, self._trial, self._directory = arguments, trial, directory
        self._environment = environment
        self._pattern = pattern
        self._owned: set[psutil.Process] = set()
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._matches: deque[CommandReport] = deque()
        self._reported = 0
        self._is_paused = False
        self._messages = CommandMessages(trial.heard)
        task = trial.task
        self._description = trial.folder / "trial.json"
        described = {
            "socket": str(self._messages.path),
            "id": trial.id,
            "seed": trial.seed,
            "device": str(trial.device),
            "folder": str(trial.folder),
            "config": dict(trial.config),
            "parameters": dict(task.parameters),
            "training": trial.training.model_dump(),
            "workload": task.workload,
            "optimizer": task.optimizer,
            "metrics": task.metrics,
            "from_epoch": task.from_epoch if stored is not None else 0,
            "to_epoch": task.to_epoch,
            "epochs": task.epochs,
            "interval_steps": task.interval_steps,
            "rank": task.rank,
            "world_size": task.world_size,
            "state": None if stored is None else str(stored),
            "threads": torch.get_num_threads(),
        }
        self._description.write_text(json.dumps(described), encoding="utf-8")

    def __enter__(self) -> None:
        environment = {
            **os.environ,
            **self._environment,
            VARIABLE: str(self._description),
            "OMP_NUM_THREADS": str(torch.get_num_threads()),
        }
        try:
            self._process = subprocess.Popen(
                self._arguments,
                cwd=self._directory or self._trial.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # Signals for the worker's group, such as an interrupt at the terminal, are not for it.
                start_new_session=True,
            )
        except OSError as error:
            self._messages.close()
            raise CannotTrain(
                f"expected the command of workload {self._trial.task.workload!r} to start on "
                f"{socket.gethostname()}, got {error.strerror}: {error.filename!r}; install it there, or "
                "correct the workload's command"
            ) from None
        self._pump = threading.Thread(target=self._read_output, name="output of a command", daemon=True)
        self._pump.start()

    def __exit__(self, *_: object) -> None:
        end_descendants(spare=lambda process: not self._owns(process))
        with suppress(ChildProcessError):
            self._process.wait()
        self._messages.close()
        # A process that has left the tree may hold the pipe open.
        self._pump.join(timeout=1.0)

    def reports(self) -> Iterator[CommandReport]:
        """Yield the program's reports until it ends, or until its trial pauses or is complete."""
        if self._pattern is not None:
            yield from self._matched()
            return
        while (message := self._messages.report(has_ended=self._has_ended)) is not None:
            found: Any = message.get("report")
            if not isinstance(found, dict):
                raise CannotTrain(f"expected a report from the command, got {str(message)[:200]}")
            fields = cast("dict[str, Any]", found)
            self._reported += 1
            yield CommandReport(
                validation=fields.get("validation"),
                test=lambda: self.ask("test"),
                train_loss=fields.get("train_loss"),
                step=fields.get("step"),
                lr=fields.get("lr"),
                probes=tuple(fields["probes"]) if fields.get("probes") else None,
                saves=bool(message.get("saves")),
                place=str(fields.get("place", "")),
            )

    def ask(self, what: str) -> object:
        """Ask the waiting program for its `test` values or the path of its `state`, and return the answer."""
        self._messages.send({"do": what})
        answer = self._messages.answer(has_ended=self._has_ended)
        if answer is None:
            self.wait()
            raise CommandFailed(f"expected the command to answer with its {what}, but it ended")
        return answer.get(what)

    def go_on(self, *, is_over: bool) -> None:
        """Let the waiting program go on."""
        if self._pattern is None:
            self._messages.send({"do": "go on", "is_over": is_over})

    def wait(self) -> None:
        """Wait for the program's end.

        Raises:
            CommandFailed: it failed.
        """
        if self._is_paused:
            return
        status = self._process.wait()
        self._pump.join(timeout=1.0)
        if status != 0:
            raise CommandFailed(self._failure(status))

    def _failure(self, status: int) -> str:
        how = f"exited with status {status}" if status > 0 else f"was killed by signal {-status}"
        after = f"after {self._reported} reports" if self._reported else "before its first report"
        lines = [line.strip() for line in self._tail if line.strip()]
        last = f"; its last output: {lines[-1][:500]}" if lines else "; it wrote nothing"
        places = [match for line in lines if (match := _FRAME.search(line)) and not is_ours(match[1])]
        place = f" ({Path(places[-1][1]).name}, line {places[-1][2]})" if places else ""
        name = self._trial.task.workload
        return f"the command of workload {name!r} {how} {after}{last}{place}"

    def _matched(self) -> Iterator[CommandReport]:
        """Yield the reports in the output of a program that does not wait for answers."""
        task = self._trial.task
        while True:
            has_ended = self._has_ended()
            if has_ended:
                self._pump.join(timeout=1.0)
            while self._matches and not (self._trial.is_over and task.to_epoch < task.epochs):
                self._reported += 1
                yield self._matches.popleft()
            if self._trial.is_over and task.to_epoch < task.epochs:
                # It cannot pause at a rung: it ends there, and starts over.
                self._is_paused = True
                return
            if has_ended:
                return
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_POLL_S)

    def _has_ended(self) -> bool:
        return self._process.poll() is not None

    def _read_output(self) -> None:
        """Pass on the program's output, keep its last lines, and find reports in it; the body of a thread."""
        stream = cast("IO[bytes]", self._process.stdout)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        rest = ""
        with stream:
            while chunk := os.read(stream.fileno(), _CHUNK):
                with suppress(OSError):
                    os.write(1, chunk)
                self._trial.heard(None)
                *lines, rest = (rest + decoder.decode(chunk)).split("\n")
                rest = rest[-_MAX_LINE:]
                for line in lines:
                    self._note(line[-_MAX_LINE:])
        self._note(rest)

    def _note(self, line: str) -> None:
        self._tail.append(line)
        pattern = self._pattern
        match = pattern.search(line) if pattern is not None else None
        if match is None:
            return
        found = match.groupdict()
        validation: dict[str, object] = {self._trial.task.metrics[0]: found["validation"]}
        if found.get("validation_loss") is not None:
            validation["loss"] = found["validation_loss"]
        self._matches.append(
            CommandReport(
                validation=validation,
                test=found.get("test"),
                train_loss=found.get("train_loss"),
                step=found.get("step"),
                place=f"the output {line.strip()[:80]!r}",
            )
        )

    def _owns(self, process: psutil.Process) -> bool:
        """Return whether a process is the program, or one that it has started."""
        with suppress(psutil.Error):
            # The first finds those whose parents have ended, the second those without the environment.
            if (
                process.environ().get(VARIABLE) == str(self._description)
                or process.pid == self._process.pid
                or self._process.pid in {parent.pid for parent in process.parents()}
            ):
                self._owned.add(process)
        return process in self._owned
