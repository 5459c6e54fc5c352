"""The service conforms to its OpenAPI description: thousands of generated requests, valid and invalid.

CONTRACT_CASES is the minimum number of requests of the slow run on each database (10,000).
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from catalogs import catalog
from live_servers import serving
from populated_store import AttackTarget, PopulatedStore, populate
from postgres_server import PostgresServer

from service.app import create_app
from service.event_streams import StreamSettings
from service.settings import ServiceSettings
from studies.store import Store

__all__: list[str] = []

CASES = int(os.environ.get("CONTRACT_CASES", "10000"))
# Per operation in one slice. Requests make the database grow, so the next slice starts with a new copy.
IN_ONE_GO = 30
PHASES = ("examples", "coverage", "fuzzing", "stateful")
# Not asserted: the rate depends on the machine.
NO_CHECKS = "object_level_authorization"


def facts(data: PopulatedStore) -> dict[str, Sequence[str]]:
    """Return the existing ids and names for the hooks.

    Keys are names of path parameters, of operations with a parameter, or of parts of a body.
    """
    cards = catalog()
    names = [h.name for card in cards.optimizers.values() for h in card.hyperparameters]
    return {
        "study_id": data.studies,
        "trial_id": data.trials,
        "suite_name": ["small"],
        "closed_for_good": [data.cancelled],
        "workload": list(cards.workloads),
        "optimizer": list(cards.optimizers),
        "hyperparameter": [*dict.fromkeys(names), "betas"],
        "/v1/optimizers/{name} name": list(cards.optimizers),
        "/v1/workloads/{name} name": list(cards.workloads),
        "/v1/workloads/{name}/record name": list(cards.workloads),
        "/problems/{slug} slug": ["not-json", "cross-site", "spec-invalid"],
    }


def attack(
    attacked: AttackTarget, folder: Path, *, examples: int, seed: int, phases: Sequence[str] = PHASES
) -> dict[str, Any]:
    """Run schemathesis against a service and return its report."""
    known, report = folder / f"facts-{seed}.json", folder / f"report-{seed}.json"
    known.write_text(json.dumps(facts(attacked.data)), encoding="utf-8")
    here = Path(__file__).parent
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TANGENT_")},
        "PYTHONPATH": os.pathsep.join((str(here), str(here.parents[1]))),
        "SCHEMATHESIS_HOOKS": "contract_hooks",
        "CONTRACT_FACTS": str(known),
    }
    asked = [
        Path(sys.executable).with_name("st"),
        "run",
        f"{attacked.url}/openapi.json",
        "--checks",
        "all",
        "--exclude-checks",
        NO_CHECKS,
    ]
    asked += [
        "--phases",
        ",".join(phases),
        "--max-examples",
        str(examples),
        "--seed",
        str(seed),
        "--generation-database",
        "none",
        "--no-color",
    ]
    asked += [
        "--header",
        f"Authorization: {attacked.data.bearer('root')['authorization']}",
        "--request-timeout",
        "30",
        "--continue-on-failure",
    ]
    asked += [
        "--report",
        "json",
        "--report-json-path",
        str(report),
        "--suppress-health-check",
        "all",
        "--output-truncate",
        "false",
    ]
    done = subprocess.run(asked, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    assert found["complete"]
    assert (found["failures"], found["errors"], found["operations"]["tested"]) == (
        [],
        [],
        found["operations"]["total"],
    )
    return found


def test_the_service_conforms_to_its_description(attacked: AttackTarget, tmp_path: Path) -> None:
    found = attack(attacked, tmp_path, examples=1, seed=1, phases=("examples", "fuzzing"))
    assert found["test_cases"]["generated"] > 100


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def template(
    request: pytest.FixtureRequest, furnished: tuple[Path, PopulatedStore]
) -> tuple[Any, PopulatedStore]:
    """The populated database that each slice of the long run copies, and its contents."""
    if request.param == "sqlite":
        return furnished
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.create()
    store = Store.open(server.url(name))
    data = populate(store)
    store.close()
    return (server, name), data


@contextmanager
def copied(template: Any, folder: Path) -> Generator[str]:
    """Yield the URL of a new copy of a database."""
    if isinstance(template, Path):
        shutil.copy(template, folder / "tangent.db")
        yield f"sqlite:///{folder}/tangent.db"
        (folder / "tangent.db").unlink()
        return
    server, name = template
    copy = server.create(template=name)
    yield server.url(copy)
    server.drop(copy)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_ten_thousand_generated_requests_find_no_error(
    template: tuple[Any, PopulatedStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("TANGENT_")]:
        monkeypatch.delenv(name)
    made, seed, began = 0, int(os.environ.get("CONTRACT_SEED", "1")), time.monotonic()
    while made < CASES:
        with copied(template[0], tmp_path) as url:
            settings = ServiceSettings.load(home=tmp_path, database_url=url, rate_per_s=0)
            store = Store.open(url, migrate=False)
            app = create_app(
                settings, store, stream_settings=StreamSettings(poll_s=0.02, max_poll_s=0.05, heartbeat_s=0.3)
            )
            with serving(app) as address:
                found = attack(
                    AttackTarget(address, template[1], store, app),
                    tmp_path,
                    examples=min(IN_ONE_GO, CASES),
                    seed=seed,
                )
            store.close()
        made, seed = made + found["test_cases"]["generated"], seed + 1
        sys.stderr.write(
            f"{made} requests in {time.monotonic() - began:.0f} s, "
            f"{found['operations']['tested']} operations, no fault\n"
        )
