"""The page of a study of 10,000 trials of 20 epochs: the service's time and bytes, the first chart, and CSV.

    .venv/bin/python benchmarks/page.py --keep /var/tmp/tangent-page --rounds 5 --json page.json

It fills a SQLite database with two studies of this size, one closed and one that still trains, with the real
scheduler and writer (`load_record.py`); `--keep FOLDER` keeps the database for later runs. Each round starts
a fresh `tangent serve` on a copy. The times of a step are from the request to the last byte of the response:

    first     the closed study's page from a service that has no analysis of it
    complete  the same page with its analysis, if the first one had none
    reload    the page again
    again     the page from a service that is restarted on the same folder
    update    of the page of the running study after 128 more trials, with their results but not yet their
              analysis
    analysed  the first update with the new analysis
    live      what the running study does now, as JSON
    list      the list of studies with the queue and the machines, where there are 1,000 more
    list update  the update of that list after one of them was archived
    csv       the trials of the closed study, compressed
    chart     from the navigation to the first chart that is drawn, in Chromium with an empty cache
    revisit   the same with the scripts in the browser's cache
"""

import argparse
import contextlib
import gzip
import http.client
import re
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from load_processes import Process, free_port, started, wait_for
from load_record import Shape, play, train_more
from playwright.sync_api import Browser, sync_playwright
from tables import Table, add_outputs, machine, publish

from studies.actors import OPERATOR
from studies.store import Store
from workers.catalog import installed_catalog

__all__: list[str] = []

_ROOT = Path(__file__).parents[1]
_ARMS = ("adamp", "sgdp", "adamw", "sgd")
_LIVE = re.compile(rb'hx-get="((?:/studies/[^"]*)?/live[^"]*)"')
_EVIDENCE = b'class="plot'
# Times of the browser itself, because Playwright's own calls take tens of milliseconds.
_WATCH = """
new MutationObserver((_, watching) => {
  if (document.querySelector(".plot .main-svg .scatterlayer path")) {
    watching.disconnect();
    requestAnimationFrame(() => setTimeout(() => { window.firstChart = performance.now(); }));
  }
}).observe(document, { childList: true, subtree: true });
"""


@dataclass(frozen=True)
class _Got:
    """A response.

    Attributes:
        first_s, seconds: from the request to its first and to its last byte.
        size: bytes as sent.
        body: the content.
    """

    first_s: float
    seconds: float
    size: int
    body: bytes


def _get(port: int, path: str) -> _Got:
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"accept-encoding": "gzip"})
        answer = connection.getresponse()
        first_s, sent = time.perf_counter() - began, answer.read()
        seconds = time.perf_counter() - began
        if answer.status not in {200, 204}:
            raise RuntimeError(f"{path}: {answer.status} {sent[:300]!r}")
        body = gzip.decompress(sent) if answer.getheader("content-encoding") == "gzip" else sent
    return _Got(first_s, seconds, len(sent), body)


def _filled(home: Path, given: argparse.Namespace) -> tuple[str, str]:
    """Fill a database, and return the ids of the closed and the running study."""
    body = {
        "arms": list(_ARMS),
        "budget": {"trials_per_arm": given.trials // len(_ARMS), "epochs": given.epochs},
        "sampler": "random",
        # As many as with the default sampler.
        "search": {"paired": given.trials // len(_ARMS) // 2},
        "resources": {"max_pack_size": 32},
    }
    names = home / "studies.txt"
    if not names.exists():
        store = Store.open(f"sqlite:///{home / 'tangent.db'}")
        store.announce(installed_catalog(), dispatcher="fill")
        found = [play(store, Shape(end, body, end=end), by=OPERATOR) for end in ("complete", "release")]
        store.close()
        names.write_text(" ".join(found))
    closed, running = names.read_text().split()
    return closed, running


@contextlib.contextmanager
def _service(home: Path) -> Iterator[tuple[int, Process]]:
    port, log = free_port(), home / "serve.log"
    environment = {"PYTHONPATH": str(_ROOT), "TANGENT_HOME": str(home), "TANGENT_PORT": str(port)}
    command = [Path(sys.executable).parent / "tangent", "serve"]
    with started(command, log, environment) as served:
        wait_for(port, served, log)
        yield port, served


def _copy_study(home: Path, study_id: str, *, copies: int) -> None:
    """Store copies of a closed study without its trials."""
    with contextlib.closing(sqlite3.connect(home / "tangent.db")) as database, database:
        for table, key in (("study", "id"), ("arm", "study_id")):
            columns = [str(row[1]) for row in database.execute(f"PRAGMA table_info({table})")]
            changed = {key: "'copy-' || n", "idempotency_key": "NULL"}
            chosen = ", ".join(changed.get(name, name) for name in columns)
            database.execute(
                f"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {copies}) "
                f"INSERT INTO {table} SELECT {chosen} FROM {table}, c WHERE {table}.{key} = ?",
                (study_id,),
            )


def _until_analysed(port: int, page: _Got, *, wait_s: float = 0.1) -> tuple[_Got, float]:
    """Ask for updates of a page as a browser does, until one has an analysis.

    Return it, and the seconds until then.
    """
    began = time.perf_counter()
    address = _LIVE.search(page.body)
    while time.perf_counter() < began + 120:
        if address is None:
            raise RuntimeError("the page has no analysis and does not ask for one")
        update = _get(port, address[1].decode().replace("&amp;", "&"))
        if _EVIDENCE in update.body:
            return update, time.perf_counter() - began
        address = _LIVE.search(update.body) or address
        time.sleep(wait_s)
    raise RuntimeError("no analysis within two minutes")


def _peak_mb(pid: int) -> float:
    """Return the most memory that a process has had."""
    with contextlib.suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0
    return 0.0


def _chart_ms(browser: Browser, address: str) -> dict[str, float]:
    """Return the milliseconds from the navigation to the first chart: with an empty cache, and after it."""
    found: dict[str, float] = {}
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    for name in ("chart", "revisit"):
        page = context.new_page()
        page.add_init_script(_WATCH)
        page.goto(address, wait_until="commit")
        deadline = time.monotonic() + 60
        while not (shown := page.evaluate("window.firstChart ?? 0")):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{address}: no chart within a minute")
            page.wait_for_timeout(50)
        found[name] = shown
        found[f"{name} bytes"] = page.evaluate(
            "performance.getEntries().reduce((sum, each) => sum + (each.transferSize ?? 0), 0)"
        )
        page.close()
    context.close()
    return found


def _round(kept: Path, closed: str, running: str, browser: Browser, *, epochs: int) -> dict[str, float]:
    """Return the figures of one round: seconds, bytes and megabytes by name."""
    found: dict[str, float] = {}

    def note(name: str, got: _Got) -> _Got:
        found[name], found[f"{name} bytes"] = got.seconds, got.size
        return got

    with tempfile.TemporaryDirectory(prefix="tangent-page-") as folder:
        home = Path(folder)
        for file in kept.glob("tangent.db*"):
            shutil.copy(file, home)
        with _service(home) as (port, served):
            first = note("first", _get(port, f"/studies/{closed}"))
            waited_s = 0.0 if _EVIDENCE in first.body else _until_analysed(port, first)[1]
            found["complete"] = first.seconds + waited_s
            note("reload", _get(port, f"/studies/{closed}"))
            found |= _chart_ms(browser, f"http://127.0.0.1:{port}/studies/{closed}")
            pids = [served.process.pid, *map(int, served.children)]
            before_mb = _peak_mb(pids[0])
            found["csv first byte"] = note("csv", _get(port, f"/studies/{closed}/trials.csv")).first_s
            found["csv MB"] = _peak_mb(pids[0]) - before_mb
            store = Store.open(f"sqlite:///{home / 'tangent.db'}")
            page = _get(port, f"/studies/{running}")
            if _EVIDENCE not in page.body:
                page = _until_analysed(port, page)[0]
            train_more(store, reports=4 * epochs)
            address = _LIVE.search(page.body)
            assert address is not None, "the study is running"
            update = note("update", _get(port, address[1].decode().replace("&amp;", "&")))
            waited_s = (
                0.0 if _EVIDENCE in update.body else _until_analysed(port, update if update.body else page)[1]
            )
            found["analysed"] = update.seconds + waited_s
            note("live", _get(port, f"/v1/studies/{running}/live"))
            _copy_study(home, closed, copies=1000)
            listed = note("list", _get(port, "/"))
            store.archive("copy-7")
            address = _LIVE.search(listed.body)
            assert address is not None, "the list is live"
            note("list update", _get(port, address[1].decode().replace("&amp;", "&")))
            store.close()
            found["service MB"] = _peak_mb(pids[0])
            found["analyses MB"] = max((_peak_mb(int(pid)) for pid in served.children), default=0.0)
        with _service(home) as (port, _):
            again = note("again", _get(port, f"/studies/{closed}"))
            found["again complete"] = float(_EVIDENCE in again.body)
    return found


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the filled database here")
    parser.add_argument("--trials", type=int, default=10_000, help="trials of each study (10,000)")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of each trial (20)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which medians are taken (5)")
    add_outputs(parser)
    given = parser.parse_args()
    measured: dict[str, Any] = {"machine": machine(), "trials": given.trials, "epochs": given.epochs}
    rounds: defaultdict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="tangent-page-") as folder, sync_playwright() as playwright:
        kept = given.keep or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        closed, running = _filled(kept, given)
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for _ in range(given.rounds):
            for name, value in _round(kept, closed, running, chromium, epochs=given.epochs).items():
                rounds[name].append(value)
        chromium.close()
    measured["rounds"] = dict(rounds)
    rows = [
        [name, f"{statistics.median(values):.4g}", f"{min(values):.4g}", f"{max(values):.4g}"]
        for name, values in rounds.items()
    ]
    title = f"The page of a study of {given.trials:,} trials of {given.epochs} epochs"
    publish(given, measured, [Table(title=title, header=["", "median", "least", "most"], rows=rows)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
