"""Kills a study's run at one of its commits.

Python imports a module of this name at startup, and tests put this folder on a dispatcher's path. The file
`kill_at` in TANGENT_HOME names the commit, as `before 7` or `after 7`. The first run that commits anything
obeys it. Other processes are not affected.
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
    thread_state = threading.local()
    targets: list[tuple[str, int]] = []
    do_commit = DefaultDialect.do_commit

    def kill_if_ordered(moment: str) -> None:
        if targets == [(moment, getattr(thread_state, "commit", 0))]:
            order.with_name("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def count_commit(connection: Connection) -> None:
        thread_state.commit = 0
        if connection.get_execution_options().get("tangent_write", False):
            thread_state.commit = next(counter)
            if thread_state.commit == 1 and order.exists():
                moment, number = order.read_text().split()
                order.unlink()
                targets.append((moment, int(number)))
        kill_if_ordered("before")

    def commit(self: DefaultDialect, dbapi_connection: Any) -> None:
        do_commit(self, dbapi_connection)
        kill_if_ordered("after")

    event.listen(Engine, "commit", count_commit)
    DefaultDialect.do_commit = commit
