"""Kills a study's run at one of its commits.

Python imports a module of this name when it starts, and tests put this folder on a dispatcher's path.

A file `kill_at` in TANGENT_HOME names the commit, `before 7` or `after 7`; the first run that commits
anything takes it. Nothing else is touched.
"""

import os
import sys

__all__: list[str] = []

if "workers.run" in sys.orig_argv:
    import itertools
    import signal
    import threading
    from pathlib import Path
    from typing import Any

    from sqlalchemy import Connection, Engine, event
    from sqlalchemy.engine.default import DefaultDialect

    order = Path(os.environ.get("TANGENT_HOME", "/nowhere")) / "kill_at"
    counter = itertools.count(1)
    of_thread = threading.local()
    taken: list[tuple[str, int]] = []
    do_commit = DefaultDialect.do_commit

    def die_if(moment: str) -> None:
        if taken == [(moment, getattr(of_thread, "number", 0))]:
            order.with_name("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def count(connection: Connection) -> None:
        of_thread.number = 0
        if connection.get_execution_options().get("tangent_write", False):
            of_thread.number = next(counter)
            if of_thread.number == 1 and order.exists():
                moment, number = order.read_text().split()
                order.unlink()
                taken.append((moment, int(number)))
        die_if("before")

    def commit(self: DefaultDialect, dbapi_connection: Any) -> None:
        do_commit(self, dbapi_connection)
        die_if("after")

    event.listen(Engine, "commit", count)
    DefaultDialect.do_commit = commit
