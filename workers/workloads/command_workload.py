"""A workload whose training loop is a program of its own."""

__all__ = ["CommandWorkload"]

import os
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from torch import Tensor

from studies.catalog import WorkloadCard
from workers.script.running_command import PATTERN_GROUPS, CommandReport, RunningCommand, StateFile
from workers.script.trial import Trial
from workers.trial_processes import trial_processes
from workers.workload_errors import CannotTrain
from workers.workloads.script_workload import ScriptWorkload

_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_][\w.]*)\}")
_FLAGS: Final = "{flags}"


class CommandWorkload(ScriptWorkload):
    """A program that trains one trial: its own process, in any language.

    The program gets its configuration as arguments, or from the JSON file that the environment variable
    `TANGENT_TRIAL` names. It reports with `from tangent import trial`, with `CommandTrial`, or in lines of
    JSON on a Unix socket. It and everything that it starts end with the trial.

    In a trial of several processes each of them starts the program, with the variables that torchrun sets
    (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `LOCAL_WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT`): it calls
    `torch.distributed.init_process_group` itself.

    Only an installed package can define a command: no request names one.
    """

    def __init__(
        self,
        card: WorkloadCard,
        command: Sequence[str],
        *,
        directory: str | Path | None = None,
        pattern: str | None = None,
    ) -> None:
        """Describe a program.

        Args:
            card: the workload's card.
            command: the program and its arguments; no shell reads them. `{NAME}` in an argument stands for a
                value of the configuration (`{lr}`, `{training.batch_size}`), or for `{seed}`, `{optimizer}`,
                `{device}`, `{folder}` or `{python}`, the interpreter of the worker, and for `{epochs}` or, in
                a budget of steps, `{steps}` and `{evaluate_every}`. The argument `{flags}` stands for the
                whole configuration, as `--lr 0.1 --weight_decay 0.01`.
            directory: where it runs; by default the trial's own folder.
            pattern: for a program that cannot be changed: a regular expression that finds one epoch's report
                in a line of its output, with groups named `validation` (the objective), `test`,
                `validation_loss`, `train_loss` and `step`, which a budget of steps needs. Such a program
                cannot continue at a rung.

        Raises:
            ValueError: the command is empty, or the pattern is not valid or names other groups.
        """
        if not command:
            raise ValueError("expected a command with at least a program, got none")
        self.card = card
        self._command = tuple(command)
        self._directory = directory
        self._pattern: re.Pattern[str] | None = None
        if pattern is not None:
            try:
                self._pattern = re.compile(pattern)
            except re.error as error:
                raise ValueError(f"expected a regular expression, got {pattern!r}: {error}") from error
            groups = set(self._pattern.groupindex)
            if "validation" not in groups or not groups <= PATTERN_GROUPS:
                allowed = ", ".join(sorted(PATTERN_GROUPS))
                raise ValueError(
                    f"expected a group named validation, and no others than {allowed}, got "
                    f"{', '.join(sorted(groups)) or 'none'}; write (?P<validation>...)"
                )

    def run(self, trial: Trial) -> None:
        """Run the program until the trial or the program ends.

        Raises:
            CannotTrain: the command cannot be started, a report breaks a rule, or the program reports by a
                pattern in a trial of several processes.
            CommandFailed: the program failed.
        """
        state = trial.restore()
        stored: Path | None = None
        if state is not None:
            stored = trial.folder / "restored"
            stored.write_bytes(cast("Tensor", state["file"]["bytes"]).numpy().data)
        program = RunningCommand(
            self._arguments(trial),
            trial=trial,
            directory=self._directory,
            pattern=self._pattern,
            stored=stored,
            environment=self._variables(trial),
        )
        with program:
            for report in program.reports():
                if report.saves:
                    trial.save({"file": StateFile(program)})
                _report(trial, report)
                program.go_on(is_over=trial.is_over)
            program.wait()

    def _variables(self, trial: Trial) -> dict[str, str]:
        """Return the environment by which the processes of a trial find each other; empty for one process."""
        if not trial.distributed:
            return {}
        if self._pattern is not None:
            raise CannotTrain(
                f"expected a program that reports by itself in a trial of {trial.world_size} processes, got "
                f"one with a pattern, workload {self.card.name!r}; set processes_per_trial to 1"
            )
        # The worker's own group has taken its port.
        address, port = trial_processes().from_main(
            lambda: (os.environ.get("MASTER_ADDR", "127.0.0.1"), _free_port())
        )
        return {
            "RANK": str(trial.rank),
            "WORLD_SIZE": str(trial.world_size),
            # Each process sees only its own GPU.
            "LOCAL_RANK": "0",
            "LOCAL_WORLD_SIZE": "1",
            "MASTER_ADDR": address,
            "MASTER_PORT": str(port),
        }

    def _arguments(self, trial: Trial) -> list[str]:
        in_epochs, in_steps = {"epochs": trial.budget}, {"steps": trial.budget}
        values: dict[str, object] = {
            **trial.config,
            "seed": trial.seed,
            "optimizer": trial.optimizer_name,
            **(in_epochs if trial.evaluate_every is None else in_steps),
            **({} if trial.evaluate_every is None else {"evaluate_every": trial.evaluate_every}),
            "device": trial.device,
            "folder": trial.folder,
            "python": sys.executable,
        }

        def value_of(match: re.Match[str]) -> str:
            if match[1] in {"epochs", "steps", "evaluate_every"} - values.keys():
                unit = "epochs" if match[1] == "epochs" else "steps"
                raise CannotTrain(
                    f"expected a budget of {unit} for the command of workload {self.card.name!r}, which has "
                    f"{match[0]}, got one of {trial.task.budget}; change the study's budget or the command"
                )
            if match[1] not in values:
                raise CannotTrain(
                    f"expected names of the configuration in the command of workload {self.card.name!r}, got "
                    f"{match[0]}; it has {', '.join(values)}"
                )
            return _written(values[match[1]])

        arguments: list[str] = []
        for argument in self._command:
            if argument == _FLAGS:
                for name, value in trial.config.items():
                    arguments += [f"--{name}", _written(value)]
            else:
                arguments.append(_PLACEHOLDER.sub(value_of, argument))
        return arguments


def _report(trial: Trial, report: CommandReport) -> None:
    """Pass on a report; raise CannotTrain with the program's line if it breaks a rule."""
    try:
        trial.report_measured(
            validation=cast("Any", report.validation),
            test=cast("Any", report.test),
            train_loss=cast("Any", report.train_loss),
            step=_step(report.step),
            lr=report.lr,
            probes=report.probes,
        )
    except CannotTrain as error:
        place = f" ({report.place})" if report.place else ""
        raise CannotTrain(f"{error}{place}") from None


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def _step(value: object) -> int | None:
    """Return the step of a report; raise CannotTrain if it is not a whole number."""
    try:
        return None if value is None else int(cast("Any", value))
    except (TypeError, ValueError):
        raise CannotTrain(f"expected a whole number for 'step', got {str(value)[:80]!r}") from None


def _written(value: object) -> str:
    """Return a value as an argument."""
    return str(value).lower() if isinstance(value, bool) else str(value)
