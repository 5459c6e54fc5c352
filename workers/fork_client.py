"""The program by which a Ray node starts each of its workers: it asks the node's fork server for a process.

Ray runs it with the command line of a worker. The forked process takes over this one's command line,
environment, working directory, standard streams, limits and signal mask, and registers with Ray by its own
process id. Whenever no process can be forked, this one becomes an ordinary worker, which takes seconds to
import what the fork server has imported.

It imports little, because it runs for every worker. It does not import this package.
"""

__all__ = ["SOCKET", "START", "main", "peer_uid"]

import sys

if __name__ == "__main__":
    # The folder of this file: its modules must not be taken for Python's own.
    del sys.path[0]

import json
import os
import resource
import signal
import socket
import struct
from collections.abc import Mapping

SOCKET = "forks/socket"
"""Where a node's fork server listens, below the folder of the node."""

START = b"."
"""What the client sends so that the forked process becomes the worker; without it that process ends."""

# A fork takes milliseconds, but a fork server that has just started still imports. Ray gives a worker 60 s to
# register, of which an ordinary one needs seconds.
_FORKED_WITHIN_S = 15.0
_CONTEXT = "--serialized-runtime-env-context="
_LANGUAGE = "--language="
_FOLDER = "--temp-dir="
_LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)


def main() -> None:
    """Have this worker forked, or become it."""
    given = sys.argv[1:]
    environment = _environment(given)
    if environment is not None:
        folder = next(word.removeprefix(_FOLDER) for word in given if word.startswith(_FOLDER))
        # The others are for Ray's own program of this kind.
        command = [word for word in given if not word.startswith((_LANGUAGE, _CONTEXT, "-s", "-S"))]
        try:
            if _is_forked(os.path.join(folder, SOCKET), command, environment):  # noqa: PTH118
                return
        # There is none, or it is being replaced.
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        # Whatever is wrong with the fork server: a worker must start.
        except Exception as error:  # noqa: BLE001
            sys.stderr.write(f"starts without the fork server: {error}\n")
    folder = next(os.path.dirname(word) for word in given if not word.startswith("-"))  # noqa: PTH120
    os.execv(sys.executable, [sys.executable, os.path.join(folder, "setup_worker.py"), *given])  # noqa: PTH118, S606


def _environment(given: list[str]) -> dict[str, str] | None:
    """Return the environment of the worker; None if it is not an ordinary Python worker."""
    context = json.loads(next((w.removeprefix(_CONTEXT) for w in given if w.startswith(_CONTEXT)), "{}"))
    is_ordinary = (
        f"{_LANGUAGE}PYTHON" in given
        and not any(word.startswith("--worker-type=") and word != "--worker-type=WORKER" for word in given)
        and any(word.startswith(_FOLDER) for word in given)
        and not context.get("command_prefix")
        and not context.get("override_worker_entrypoint")
        and context.get("py_executable", sys.executable) == sys.executable
        # Ray replaces names of variables in these.
        and not any("$" in value for value in context.get("env_vars", {}).values())
    )
    return {**os.environ, **context.get("env_vars", {})} if is_ordinary else None


def _is_forked(path: str, command: list[str], environment: Mapping[str, str]) -> bool:
    order = {
        "command": command,
        "environment": dict(environment),
        "folder": os.getcwd(),  # noqa: PTH109
        "leads_group": os.getpgrp() == os.getpid(),
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "limits": [(kind, *resource.getrlimit(kind)) for kind in _LIMITS],
    }
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(_FORKED_WITHIN_S)
        server.connect(path)
        # Ray lets everyone write to its folders.
        if peer_uid(server) != os.getuid():
            raise OSError("it runs as another user")
        socket.send_fds(server, [b"\n"], [0, 1, 2])
        server.sendall(json.dumps(order).encode() + b"\n")
        answer = server.recv(64).decode()
        if not answer.isdecimal():
            raise OSError(answer or "it has ended")
        server.sendall(START)
    return True


def peer_uid(connection: socket.socket) -> int:
    """Return the id of the user whose process is at the other end."""
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(user)


if __name__ == "__main__":
    main()
