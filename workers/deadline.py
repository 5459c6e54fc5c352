"""A time within which something must be done, or this process ends.

Also where the interpreter itself is held up and no thread gets a turn.
"""

__all__ = ["exit_after"]

import faulthandler
from collections.abc import Generator
from contextlib import contextmanager

_STANDARD_ERROR = 2


@contextmanager
def exit_after(seconds: float) -> Generator[None]:
    """End this process, with status 1, unless what follows is done within so many seconds.

    Where it was then goes to standard error.
    """
    # The descriptor itself, for `sys.stderr` may be anything by now. The clock is C's, so that it needs no
    # lock of Python's.
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STANDARD_ERROR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
