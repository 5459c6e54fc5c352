"""Shifts the database's clock by the hours in a file, in each process that uses the database.

Python imports this module when it starts. libfaketime cannot do it: under Python 3.11 it breaks `time.sleep`.
"""

import os
import sys

__all__: list[str] = []

if {"service", "workers", "workers.run"} & set(sys.orig_argv):
    from datetime import datetime, timedelta
    from pathlib import Path

    from sqlalchemy import Connection

    from studies.store import clock

    _now, _file = clock.now, Path(os.environ["CLOCK_OFFSET_FILE"])

    def _shifted(connection: Connection) -> datetime:
        return _now(connection) + timedelta(hours=float(_file.read_text()))

    clock.now = _shifted
