"""A deadline that ends the process, even if the interpreter itself is blocked and no thread can run."""

__all__ = ["exit_after"]

import faulthandler
from collections.abc import Generator
from contextlib import contextmanager

_STANDARD_ERROR = 2


@contextmanager
def exit_after(seconds: float) -> Generator[None]:
    """End this process with status 1 unless the block finishes within `seconds`.

    The stack of every thread is then printed to standard error.
    """
    # The file descriptor, because `sys.stderr` may have been replaced. The timer runs in C, so it needs no
    # lock of Python's.
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STANDARD_ERROR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
