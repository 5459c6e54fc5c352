"""A study in training that many watch, on one machine: `tangent up` on SQLite, with a real Ray.

The service, its analyses, the training and the load generator share the machine's cores. Most requests are
for the study in training: its page, the updates of that page, its analysis and its data.
"""

__all__ = ["measured"]

import argparse
import asyncio
import json
import os
import random
import re
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from load_processes import Process, free_port, started, wait_for
from load_record import SMALL_SHAPES, play
from load_traffic import Reader, Request, load

from studies.actors import OPERATOR
from studies.states import CLOSED_STUDY_STATES
from studies.store import Store
from workers.catalog import installed_catalog

_ROOT = Path(__file__).parents[1]
_LIVE = re.compile(rb'hx-get="(/studies/[^"]*/live[^"]*)"')
_STUDY = {
    "workload": "digits-mlp",
    "arms": ["adamp", "sgdp", "adamw", "sgd"],
    "budget": {"trials_per_arm": 1000, "epochs": 10},
    "resources": {"max_pack_size": 8},
}
_BEGUN_TRIALS = 100
_READY_WITHIN_S = 180.0


class _Mix:
    """Random requests of people and programs that watch a study in training."""

    def __init__(self, store: Store, running: list[str], *, seed: int = 3) -> None:
        self._rng = random.Random(seed)  # not for secrets
        self._running = running
        self._closed = [s.id for s in store.studies().items if s.state in CLOSED_STUDY_STATES]
        self._trials = [t.id for s in self._closed for t in store.trials(s).items if t.epochs_done]
        self._live: dict[str, str] = {}
        self.on_begin: Callable[[], None] = lambda: None
        kinds: list[tuple[float, Callable[[], Request]]] = [
            (4, lambda: self._page(self._rng.choice(self._running), "page: study in training")),
            (5, self._update),
            (3, lambda: self._part("analysis", self._rng.choice(self._running), "analysis, in training")),
            (2, lambda: self._page(self._rng.choice(self._closed), "page: closed study")),
            (1, lambda: self._part("analysis", self._rng.choice(self._closed), "analysis, closed")),
            (4, lambda: self._part("", self._rng.choice(self._running), "study")),
            (2, lambda: self._part("arms", self._rng.choice(self._running))),
            (3, lambda: self._part("trials", self._rng.choice(self._running))),
            (2, self._events),
            (2, lambda: Request("page: home", "/", "")),
            (2, lambda: Request("studies", "/v1/studies", "")),
            (1, lambda: Request("page: trial", f"/trials/{self._rng.choice(self._trials)}", "")),
            (1, lambda: Request("trial", f"/v1/trials/{self._rng.choice(self._trials)}", "")),
            (0.3, lambda: Request("metrics", "/metrics", "")),
        ]
        self._weights = [weight for weight, _ in kinds]
        self._kinds = [make for _, make in kinds]

    def begin(self) -> None:
        """Mark the start of the measurement."""
        self.on_begin()

    def choose(self) -> Request:
        """Return the next request."""
        (make,) = self._rng.choices(self._kinds, self._weights)
        return make()

    def _part(self, part: str, study_id: str, kind: str | None = None) -> Request:
        return Request(kind or part, f"/v1/studies/{study_id}/{part}".rstrip("/"), "")

    def _events(self) -> Request:
        path = f"/v1/studies/{self._rng.choice(self._running)}/events?page_size=100"
        return Request("events", path, "", headers={"Accept": "application/json"})

    def _page(self, study_id: str, kind: str) -> Request:
        return Request(kind, f"/studies/{study_id}", "", then=self._noting(study_id))

    def _update(self) -> Request:
        study_id = self._rng.choice(self._running)
        if study_id not in self._live:
            return self._page(study_id, "page: study in training")
        headers = {"HX-Request": "true"}
        return Request(
            "update of the page", self._live[study_id], "", headers=headers, then=self._noting(study_id)
        )

    def _noting(self, study_id: str) -> Callable[[int, Mapping[str, str], bytes], None]:
        def note(status: int, headers: Mapping[str, str], body: bytes) -> None:
            del headers
            found = _LIVE.search(body)
            if status == 200 and found is not None:
                self._live[study_id] = found[1].decode().replace("&amp;", "&")

        return note


def measured(given: argparse.Namespace, home: Path, stack: ExitStack) -> dict[str, Any]:
    """Start everything, send the requests and return the results."""
    url, port = f"sqlite:///{home}/tangent.db", free_port()
    store = Store.open(url)
    stack.callback(store.close)
    store.announce(installed_catalog(), dispatcher="load")
    for shape in SMALL_SHAPES:
        play(store, shape, by=OPERATOR)
    store.sign_off("load")
    log = home / "up.log"
    environment = {
        "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("UVPATH", "")]),
        "TANGENT_HOME": str(home),
        "TANGENT_RATE_PER_S": "0",
    }
    command = [Path(sys.executable).parent / "tangent", "up", "--port", str(port)]
    up = stack.enter_context(started(command, log, environment, ends_within_s=40.0))
    wait_for(port, up, log, path="/readyz", within_s=_READY_WITHIN_S)
    running = [_submitted(port) for _ in range(given.runs)]
    _wait_until_begun(store, running)
    mix = _Mix(store, running)
    stamps = store.change_stamps(running)
    readers = [
        Reader(port, running[n % len(running)], "", stamps[running[n % len(running)]][1])
        for n in range(given.readers)
    ]
    found: dict[str, Any] = {}

    def begin() -> None:
        found["cpu"] = _cpu(up)
        found["finished"] = _finished(store, running)

    mix.on_begin = begin
    traffic, (took_s, own_s) = asyncio.run(
        load([port], mix, readers, rate=given.rate, seconds=given.seconds, warm_s=given.warm_s)
    )
    cpu = _cpu(up)
    cores = {who: (cpu[who] - found["cpu"][who]) / took_s for who in cpu} | {"generator": own_s / took_s}
    for fault in traffic.faults[:20]:
        print(fault, file=sys.stderr)
    return {
        "title": (
            f"{given.rate:g} requests a second for {given.seconds:g} s while {given.runs} "
            f"{'studies train' if given.runs > 1 else 'study trains'}, SQLite, {given.readers} streams"
        ),
        "seconds": given.seconds,
        "took_s": took_s,
        "cores": cores,
        "trials_finished": _finished(store, running) - found["finished"],
        "readers": len(readers),
        "stream_events": sum(reader.events for reader in readers),
        "stream_gaps": sum(reader.gaps for reader in readers),
        "stream_faults": sum(reader.fault is not None for reader in readers),
        "load_after": os.getloadavg()[0],
        "faults": traffic.faults,
        "answers": [asdict(answer) for answer in traffic.answers],
    }


def _submitted(port: int) -> str:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/studies",
        json.dumps(_STUDY).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=20) as answer:
        return json.load(answer)["id"]


def _finished(store: Store, running: list[str]) -> int:
    return sum(store.study(study_id).progress.finished for study_id in running)


def _wait_until_begun(store: Store, running: list[str]) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while _finished(store, running) < _BEGUN_TRIALS:
        if time.monotonic() > deadline:
            raise RuntimeError(f"expected {_BEGUN_TRIALS} trials in training to end; see the logs of the run")
        time.sleep(0.5)


def _cpu(up: Process) -> dict[str, float]:
    """Return the processor seconds so far of the service, of its analyses, and of everything that trains."""
    found: dict[str, float] = {"service": 0.0, "analyses": 0.0, "training": 0.0}
    own = psutil.Process(up.process.pid)
    analyses = {child.pid for child in own.children() if "multiprocessing.spawn" in " ".join(child.cmdline())}
    for one in (own, *own.children(recursive=True)):
        times = one.cpu_times()
        who = "service" if one is own else "analyses" if one.pid in analyses else "training"
        found[who] += times.user + times.system
    return found
