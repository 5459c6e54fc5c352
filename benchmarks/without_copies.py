"""A patch that skips Optuna's copy while a file exists, imported first in every process of `overhead.py`.

There is no other way to switch the copy off, and its cost cannot be separated while it is written in parallel
to everything else.
"""

__all__ = ["SIGN", "install"]

import math
import os
import sys
from pathlib import Path

SIGN = "no-copies"
"""The file in a dispatcher's home."""


def install() -> None:
    """Patch a study's run process to check for the file before each copy."""
    if "workers.run" not in sys.orig_argv:
        return
    from studies.store import Store

    copy = Store.copy_to_optuna
    sign = Path(os.environ["TANGENT_HOME"]) / SIGN

    def copy_unless_disabled(self: Store, study_id: str, *, within_s: float = math.inf) -> int:
        return 0 if sign.exists() else copy(self, study_id, within_s=within_s)

    Store.copy_to_optuna = copy_unless_disabled
