"""The processes of one side of a comparison: the processor seconds they use, and when they are idle.

A process belongs to a side if its environment contains the side's mark. Children inherit the mark even if
they detach, as Ray's daemons and workers do from their session and their parent. The seconds are read from
/proc several times a second. The time that a process uses after its last reading, less than one interval, is
not counted, which favours the side that starts more processes.
"""

__all__ = ["Side"]

import os
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

_MARK = "TANGENT_BENCHMARK_SIDE"
_LOOK_EVERY_S = 0.2
_SETTLED_AFTER = 5
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Side:
    """A context manager that watches the processes started with `environment`."""

    def __init__(self) -> None:
        """Create a new mark, without watching anything yet."""
        self._mark = uuid.uuid4().hex
        self._looks_at_strangers: Counter[tuple[int, str]] = Counter()
        self._used_s: dict[tuple[int, str], float] = {}
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="side", daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with the mark added, which Tangent's workers receive too."""
        return {**os.environ, _MARK: self._mark, "TANGENT_TRIAL_ENVIRONMENT": _MARK}

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._watcher.join()

    @property
    def cpu_s(self) -> float:
        """Processor seconds so far of all processes of the side, running or ended."""
        with self._lock:
            self._look()
            return sum(self._used_s.values())

    @property
    def processes(self) -> int:
        """Number of processes that the side has started so far."""
        return len(self._used_s)

    def rest(self, *, within_s: float = 90.0, still_s: float = 2.0, busy: float = 0.15) -> float:
        """Wait until the processes use fewer than `busy` cores for `still_s` seconds.

        Return the monotonic time at which this period began.

        Raises:
            TimeoutError: the processes do not become idle.
        """
        deadline = time.monotonic() + within_s
        since, used = time.monotonic(), self.cpu_s
        while time.monotonic() - since < still_s:
            time.sleep(0.25)
            now_used = self.cpu_s
            if now_used - used > busy * still_s:
                since, used = time.monotonic(), now_used
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"expected the processes to be idle within {within_s:g} s, but they are still "
                    "working; check what they do"
                )
        return since

    def _watch(self) -> None:
        while not self._is_over.wait(_LOOK_EVERY_S):
            with self._lock:
                self._look()

    def _look(self) -> None:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                # The command's name, which may contain spaces, ends at the last bracket.
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
                key = (int(folder.name), fields[19])
                if key not in self._used_s and not self._is_new(key, folder):
                    continue
                self._used_s[key] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
            except (OSError, IndexError):
                # The process has ended meanwhile, or belongs to another user.
                continue

    def _is_new(self, key: tuple[int, str], folder: Path) -> bool:
        # Between fork and exec a child shows its parent's environment, so read it a few times before
        # deciding.
        if self._looks_at_strangers[key] >= _SETTLED_AFTER:
            return False
        self._looks_at_strangers[key] += 1
        return f"{_MARK}={self._mark}".encode() in (folder / "environ").read_bytes()
