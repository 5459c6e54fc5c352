"""What went wrong in a user's code: the mistake in one sentence, and the user's own frames.

It does not import torch: a worker's imports may be what fails.
"""

__all__ = [
    "CannotTrain",
    "CommandFailed",
    "MachineUnfit",
    "WorkloadFault",
    "describe_error",
    "innermost_place",
    "place_of",
]

import re
import socket
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from inspect import findsource, getfile, unwrap
from pathlib import Path
from types import CodeType
from typing import Any, cast

_MAX_REASON = 2000
_MAX_TRACEBACK = 4000
"""A trial's traceback is part of every list of trials."""

_OURS = Path(__file__).parent
# Workloads and optimizers of our own are shown like a user's.
_SHOWN = (_OURS / "workloads", _OURS / "optimizers")
_INTERFACES = tuple(
    _OURS / "workloads" / name
    for name in (
        *("kinds.py", "tensor_workload.py", "loop_workload.py", "script_workload.py", "command_workload.py"),
        "configuration.py",
    )
)

# In the words of torch.
_DEVICE_MISMATCH = re.compile(r"(same|expected) device\b|device type")

# The functions of a workload, as its author knows them.
_DATA_AND_MODEL = frozenset({"load_data", "build_model"})
_FUNCTIONS = frozenset(
    {
        *_DATA_AND_MODEL,
        *("loss", "loss_weight", "metric_sum", "further_metric_sums"),
        *("steps_per_epoch", "train_batches", "training_step", "evaluate", "run"),
        "parameter_groups",
    }
)


class CannotTrain(ValueError):
    """No trial of the workload can be trained, whatever its configuration.

    Attributes:
        function: the user's function that is to be changed; None if the fault is not in one function.
    """

    def __init__(self, message: str, *, function: Callable[..., Any] | None = None) -> None:
        super().__init__(message)
        self.function = function


class MachineUnfit(CannotTrain):
    """This machine lacks a package that the workload needs, or has another version of it."""


class CommandFailed(Exception):
    """The program of a workload failed; the message says how."""


_FOR_ALL = (CannotTrain, FileNotFoundError, ImportError)
"""Errors that no configuration avoids, wherever they are raised: a missing file or package stays missing."""


@dataclass(frozen=True)
class WorkloadFault:
    """An error of a user's code, in words.

    Attributes:
        reason: what was wrong, in one sentence.
        traceback: the user's own frames, as Python prints them, and the error.
        is_for_all: whether every trial fails in the same way, whatever its configuration.
        unfit_machine: the machine that lacks a file or a package; None for any other error.
    """

    reason: str
    traceback: str
    is_for_all: bool
    unfit_machine: str | None = None


def describe_error(error: BaseException, *, workload: str, machine: str | None = None) -> WorkloadFault:
    """Describe an error that was raised while a pack was trained.

    Frames of Tangent, torch, Ray and Python's library are left out of the traceback, unless there are no
    others.

    Args:
        error: the error, as it was caught.
        workload: name of the pack's workload.
        machine: where it was raised.
    """
    frames = list(_frames(error))
    entry = frames[0].name if frames else None
    function = error.function if isinstance(error, CannotTrain) else None
    is_whole = isinstance(error, CannotTrain | CommandFailed)
    reason = str(error) if is_whole else f"{type(error).__name__}: {error}"
    if entry in _FUNCTIONS and not is_whole:
        reason = f"{entry} of workload {workload!r} raised {reason}"
    elif entry == "forward":
        reason = f"the model of workload {workload!r} raised {reason}"
    hint = _hint(error)
    reason = f"{reason[:_MAX_REASON]}{'; ' if hint else ''}{hint}"
    place = place_of(function) if function is not None else None
    innermost = frames[-1] if frames else place
    if innermost is not None:
        reason += f" ({Path(innermost.filename).name}, line {innermost.lineno})"
    return WorkloadFault(
        reason,
        _formatted(error, place),
        is_for_all=isinstance(error, _FOR_ALL) or any(frame.name in _DATA_AND_MODEL for frame in frames),
        unfit_machine=machine if _is_of_machine(error) else None,
    )


def _is_of_machine(error: BaseException) -> bool:
    """Return whether an error is, or was caused by, a file or a package that is missing."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, FileNotFoundError | ModuleNotFoundError | MachineUnfit):
            return True
        link = link.__cause__
    return False


def _hint(error: BaseException) -> str:
    """Return what to do about a common mistake; empty for all others."""
    text = str(error)
    if isinstance(error, FileNotFoundError):
        return f"make this file available on {socket.gethostname()}"
    if _DEVICE_MISMATCH.search(text):
        return (
            "register every tensor of the model as a parameter or a buffer, and create others with "
            "device=inputs.device"
        )
    return ""


def _frames(error: BaseException) -> Iterator[traceback.FrameSummary]:
    """Yield the user's own frames, the outermost first."""
    return (frame for frame in traceback.extract_tb(error.__traceback__) if _is_shown(frame.filename))


def _formatted(error: BaseException, place: traceback.FrameSummary | None) -> str:
    """Return the traceback with the user's own frames; all frames if there are none of them."""
    whole = traceback.TracebackException.from_exception(error)
    if place is not None:
        whole.stack = traceback.StackSummary.from_list([place])
    link: traceback.TracebackException | None = whole
    while link is not None:
        kept = [frame for frame in link.stack if _is_shown(frame.filename)]
        if kept:
            link.stack = traceback.StackSummary.from_list(kept)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    text = "".join(whole.format()).rstrip()
    return text if len(text) <= _MAX_TRACEBACK else f"…{text[1 - _MAX_TRACEBACK :]}"


def innermost_place(error: BaseException) -> str:
    """Return the file and line of the user's code in which an error was raised; empty if it has none."""
    frames = list(_frames(error))
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def place_of(function: Callable[..., Any]) -> traceback.FrameSummary | None:
    """Return where a function or class is defined, as a frame; None if it is not Python code in a file."""
    if isinstance(function, type):
        try:
            return traceback.FrameSummary(
                getfile(function), findsource(function)[1] + 1, cast("type[object]", function).__name__
            )
        except (OSError, TypeError):
            return None
    code = getattr(unwrap(function), "__code__", None)
    if not isinstance(code, CodeType):
        return None
    return traceback.FrameSummary(code.co_filename, code.co_firstlineno, code.co_name)


@cache
def _is_shown(filename: str) -> bool:
    """Return whether a file is not one of Tangent's, torch's, Ray's or Python's own."""
    path = Path(filename)
    if any(path.is_relative_to(folder) for folder in _SHOWN):
        return path not in _INTERFACES
    if filename.startswith("<frozen ") or any(path.is_relative_to(folder) for folder in _hidden_packages()):
        return False
    # Installed packages may lie within the folder of Python's own library.
    sites = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
    return not path.is_relative_to(sysconfig.get_path("stdlib")) or any(map(path.is_relative_to, sites))


@cache
def _hidden_packages() -> tuple[Path, ...]:
    specs = [find_spec(name) for name in ("torch", "ray")]
    packages = [Path(spec.origin).parent for spec in specs if spec is not None and spec.origin is not None]
    return _OURS, _OURS.with_name("studies"), *packages
