"""Hosts of a network, as network namespaces on this machine.

Each has its own address, name, /tmp and network link; all are connected to one switch.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

__all__ = ["Host", "Network", "network", "why_not_here"]

_PREFIX = "tg"
_OWNER = "tangent-test-"


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _sweep() -> None:
    """Remove bridges and namespaces that killed test processes left behind."""
    for line in _ip("-o", "link", "show", "type", "bridge").splitlines():
        bridge = line.split(":")[1].strip()
        owner = line.rpartition(f"alias {_OWNER}")[2].strip()
        if bridge.startswith(_PREFIX) and owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            for space in (name.split()[0] for name in _ip("netns", "list").splitlines()):
                if space.startswith(f"{bridge}-"):
                    _ip("netns", "delete", space)
            _ip("link", "delete", bridge)


def _memory_of(name: str, mib: int) -> Path | None:
    """Return a control group with a memory limit, of either kernel version; None if that is not possible."""
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = root / name
        with contextlib.suppress(OSError):
            group.mkdir(exist_ok=True)
            (group / limit).write_text(str(mib * 2**20))
            return group
        with contextlib.suppress(OSError):
            group.rmdir()
    return None


def _remove_group(group: Path) -> None:
    # The group may still count processes that were killed a moment ago.
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)


def why_not_here() -> str | None:
    """Return why this machine cannot create hosts; None if it can."""
    if os.geteuid() != 0:
        return "needs root to create network namespaces"
    if Path(__file__).is_relative_to("/tmp"):
        return "needs a checkout outside /tmp, because each host has its own /tmp"
    missing = [
        program
        for program in ("ip", "nsenter", "unshare", "setpriv", "mount")
        if shutil.which(program) is None
    ]
    if missing:
        return f"needs {', '.join(missing)} (Debian's packages iproute2, util-linux and mount)"
    name = f"{_PREFIX}{os.getpid()}try"
    try:
        _ip("netns", "add", name)
        _ip("netns", "delete", name)
        _ip("link", "add", name[-15:], "type", "bridge")
        _ip("link", "delete", name[-15:])
    except OSError as error:
        return f"needs network namespaces and bridges: {error}"
    return None


class Host:
    """A network namespace with one link to the switch.

    Attributes:
        name: its host name.
        address: its IP address in the network.
    """

    def __init__(self, name: str, *, address: str, bridge: str, folder: Path, memory_mib: int | None) -> None:
        """Create the host, connected to the switch."""
        self._memory = None if memory_mib is None else _memory_of(f"{bridge}-{name}", memory_mib)
        self.name = name
        self.address = address
        self._bridge = bridge
        self._space = f"{bridge}-{name}"
        self._port = f"{bridge}{name}"[:15]
        self._folder = folder / name
        (self._folder / "tmp").mkdir(parents=True)
        (self._folder / "tmp").chmod(0o1777)
        _ip("netns", "add", self._space)
        _ip("link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns", self._space)
        _ip("-n", self._space, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", self._space, "link", "set", device, "up")
        _ip("link", "set", self._port, "up")
        self.plug_in()

    def cut(self) -> None:
        """Disconnect the host: packets are dropped silently."""
        _ip("link", "set", self._port, "nomaster")

    def plug_in(self) -> None:
        """Reconnect the host."""
        _ip("link", "set", self._port, "master", self._bridge)

    def start(
        self, command: Sequence[str], *, log: IO[bytes], environment: dict[str, str], user: str | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process on this host, in its own session; it ends with the test process."""
        as_user = [] if user is None else [f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        # The shell prepares the host and then becomes the command. Each host has its own /tmp.
        remember = "" if self._memory is None else f"echo $$ > {self._memory}/cgroup.procs && "
        prepare = (
            f'{remember}hostname {self.name} && mount --bind "{self._folder}/tmp" /tmp && exec setpriv '
            f'--pdeathsig=KILL {" ".join(as_user)} "$@"'
        )
        whole = [
            "nsenter",
            f"--net=/run/netns/{self._space}",
            "unshare",
            "--uts",
            "--mount",
            "sh",
            "-c",
            prepare,
            "sh",
            *command,
        ]
        return subprocess.Popen(
            whole,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd="/",
            start_new_session=True,
        )

    @property
    def is_bounded(self) -> bool:
        """Whether its memory is limited: the system kills processes that use more."""
        return self._memory is not None

    def processes(self) -> dict[int, str]:
        """Return the command line of every process on this host, by process id."""
        found: dict[int, str] = {}
        for pid in _ip("netns", "pids", self._space).split():
            with contextlib.suppress(OSError):
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
        return found

    def remove(self) -> None:
        """Kill every process on this host and remove the host."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        with contextlib.suppress(OSError):
            _ip("link", "delete", self._port)
        _ip("netns", "delete", self._space)
        if self._memory is not None:
            _remove_group(self._memory)


class Network:
    """A switch and its hosts; this process is connected at `address`."""

    def __init__(self, folder: Path) -> None:
        """Create a switch without hosts; each host's /tmp is a folder in `folder`."""
        number = os.getpid() % 200 + 20
        self._folder = folder
        self._net = f"10.213.{number}"
        self._bridge = f"{_PREFIX}{number}"
        self.hosts: dict[str, Host] = {}
        _sweep()
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("link", "set", self._bridge, "alias", f"{_OWNER}{os.getpid()}")
        _ip("address", "add", f"{self._net}.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    def add(self, name: str, *, memory_mib: int | None = None) -> Host:
        """Return a new host, with this much memory if the machine can limit it."""
        address = f"{self._net}.{len(self.hosts) + 2}"
        host = Host(name, address=address, bridge=self._bridge, folder=self._folder, memory_mib=memory_mib)
        self.hosts[name] = host
        return host

    def remove(self) -> None:
        """Remove the hosts and the switch."""
        for host in self.hosts.values():
            host.remove()
        _ip("link", "delete", self._bridge)


@contextlib.contextmanager
def network(folder: Path) -> Iterator[Network]:
    """Yield a network; afterwards remove it and kill every process on its hosts."""
    made = Network(folder)
    try:
        yield made
    finally:
        made.remove()
