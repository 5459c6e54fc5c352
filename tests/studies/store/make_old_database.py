"""Write `revision-NNNN.sql`: a small SQLite database in this version's schema, for tests of later versions.

Run it from the repository's root with the version that introduces a revision: `PYTHONPATH=.:tests python
tests/studies/store/make_old_database.py`. Tests keep the oldest revision and the newest; a file is never
regenerated, because it stands for users' databases.
"""

import sqlite3
import tempfile
from datetime import timedelta
from pathlib import Path

from catalogs import catalog
from simulated_dispatch import SimulatedDispatcher

from studies.actors import Actor
from studies.catalog import Catalog
from studies.states import StudyMove
from studies.store import Store
from studies.store.database import VERSION_TABLE
from studies.views import Quotas
from studies.webhooks import AttemptResult, parse_webhook

__all__: list[str] = []


def main() -> None:
    """Write a database with a finished, a running and a queued study as an SQL file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tangent.db"
        store = Store.open(f"sqlite:///{path}")
        cards = catalog()
        store.announce(
            Catalog(
                optimizers={"adamp": cards.optimizers["adamp"]},
                workloads={"digits-mlp": cards.workloads["digits-mlp"]},
            ),
            dispatcher="old",
        )
        store.log_in(
            store.create_token("ada", role="admin", quotas=Quotas(max_studies=9)),
            lifetime=timedelta(days=36500),
            address="127.0.0.1",
        )
        ada = Actor(name="ada", role="admin")
        store.create_webhook(
            parse_webhook(
                {"url": "https://hooks.example/tangent", "events": ["study.failed"], "studies": "all"}
            ),
            by=ada,
        )
        store.ping_webhook(store.webhooks().items[0].id, by=ada)
        (ping,) = store.claim_deliveries(lease_s=60.0)
        store.settle_delivery(ping, AttemptResult(status_code=204))
        store.ping_webhook(ping.webhook_id, by=ada)
        play = SimulatedDispatcher(store)
        finished = play.run(arms=["adamp"], name="Finished", suite="small", confirmation={"seeds": 1})
        finished.writer.record_environment({"python": "3.11.9"})
        first, second, lost = finished.begin(0, 1, 2)
        finished.complete(first, 0.8)
        finished.complete(second, 0.9)
        finished.diverge(lost)
        for trial in finished.confirm(1, 0, seeds=1):
            finished.writer.start([trial])
            finished.complete(trial, 0.85)
        finished.writer.close(StudyMove.FINISH)
        store.set_notes(finished.claim.study_id, "Why *this* study.", by=ada)
        running = play.run(arms=["adamp"], name="Running")
        running.begin(0)
        running.writer.record_stack_width(
            {"workload": "digits-mlp", "optimizer": "adamp", "batch_size": 32, "device": "cpu", "width": 8}
        )
        running.lapse()
        play.submit(arms=["adamp"], name="Waiting")
        store.close()
        with sqlite3.connect(path) as connection:
            revision = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()[0]
            lines = "\n".join(connection.iterdump())
    target = Path(__file__).with_name(f"revision-{revision}.sql")
    target.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
