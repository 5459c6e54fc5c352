"""Other processes, as tests look at them."""

import psutil

__all__ = ["below", "is_alive", "with_argument"]


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def below(pid: int, *, command: str = "") -> list[int]:
    """Return the living processes below `pid` whose command line contains `command`."""
    try:
        processes = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [process.pid for process in processes if _is_running(process, command)]


def with_argument(argument: str) -> list[int]:
    """Return the living processes with this argument in their command line, whatever their parents."""
    return [
        process.pid
        for process in psutil.process_iter()
        if _is_running(process, argument) and argument in process.cmdline()
    ]


def _is_running(process: psutil.Process, command: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and command in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
