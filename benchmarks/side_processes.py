"""The processes of one side of a comparison: the processor seconds they use, and when they are idle.

A process belongs to a side if its environment holds the side's mark. Children inherit it however far they are
detached: Ray's daemons and workers leave their session and their parent. The seconds are read from /proc
several times a second. What a process uses between its last reading and its end, less than one interval, is
missed, which favours the side that starts more processes.
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
    """Watches the processes that are started with `environment`, from `with` to its end."""

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
        """This process's environment, marked."""
        return {**os.environ, _MARK: self._mark}

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
        """Processor seconds so far of all its processes, running or ended."""
        with self._lock:
            self._look()
            return sum(self._used_s.values())

    @property
    def processes(self) -> int:
        """Number of processes that it has started so far."""
        return len(self._used_s)

    def rest(self, *, within_s: float = 90.0, still_s: float = 2.0, busy: float = 0.15) -> float:
        """Wait until its processes use less than `busy` cores for `still_s`.

        Return the monotonic time at which that began.

        Raises:
            TimeoutError: they do not come to rest.
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
                    f"expected processes that come to rest within {within_s:g} s; they "
                    "still work: look at what they do"
                )
        return since

    def _watch(self) -> None:
        while not self._is_over.wait(_LOOK_EVERY_S):
            with self._lock:
                self._look()

    def _look(self) -> None:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                # The command's name, which may hold blanks, ends at the last bracket.
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
                key = (int(folder.name), fields[19])
                if key not in self._used_s and not self._is_new(key, folder):
                    continue
                self._used_s[key] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
            except (OSError, IndexError):
                # It has ended meanwhile, or belongs to somebody else.
                continue

    def _is_new(self, key: tuple[int, str], folder: Path) -> bool:
        # Between fork and exec a child shows the environment of its parent: a few looks settle what it
        # is.
        if self._looks_at_strangers[key] >= _SETTLED_AFTER:
            return False
        self._looks_at_strangers[key] += 1
        return f"{_MARK}={self._mark}".encode() in (folder / "environ").read_bytes()
