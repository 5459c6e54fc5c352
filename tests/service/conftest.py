"""Fixtures: a store on SQLite, a small catalogue, simulated runs of studies, and the app in process or
behind a real server.
"""

import os
import shutil
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI
from live_servers import serving
from playwright.sync_api import Browser, sync_playwright
from postgres_server import PostgresServer
from typer.testing import CliRunner, Result

from service.analysis_cache import AnalysisCache
from service.app import create_app
from service.cli.app import app as command
from service.closed_study_cache import ClosedStudyCache
from service.event_streams import StreamSettings
from service.rate_limits import RateLimits
from service.settings import ServiceSettings
from studies.catalog import (
    Bounds,
    Catalog,
    Constraint,
    Containment,
    Hyperparameter,
    OptimizerCard,
    WorkloadCard,
)
from studies.seeds import confirmation_seed
from studies.space import Choices, Condition, Range, Scalar
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import RunWriter, Store
from studies.trials import Measurement, NewTrial, PendingTrial, Report
from studies.views import Role

__all__: list[str] = []

LEASE_S = 60.0


def _number(
    name: str, default: float, low: float, high: float, *, tuned: bool, active_when: Condition | None = None
) -> Hyperparameter:
    return Hyperparameter(
        name=name,
        description=f"What {name} does.",
        unit="none",
        default=default,
        search=Range(low=low, high=high, log=True),
        source="made up",
        tuned=tuned,
        bounds=Bounds(
            low=0.0, high=1.0 if name.startswith("beta") else None, high_open=name.startswith("beta")
        ),
        active_when=active_when,
    )


def _optimizer(
    name: str,
    title: str,
    *own: Hyperparameter,
    contains: tuple[Containment, ...] = (),
    arguments: dict[str, Scalar] | None = None,
) -> OptimizerCard:
    shared = (
        _number("lr", 1e-3, 1e-5, 1.0, tuned=True),
        _number("beta1", 0.9, 0.5, 0.99, tuned=False),
        _number("beta2", 0.999, 0.9, 0.9999, tuned=False),
        _number("weight_decay", 0.01, 1e-4, 1.0, tuned=True),
    )
    return OptimizerCard(
        name=name,
        title=title,
        description=f"{title}, as its paper has it.",
        reference="made up",
        import_line=f"from adamp import {title}",
        constructor=title,
        arguments=arguments or {},
        hyperparameters=(*shared, *own),
        pairs={"betas": ("beta1", "beta2")},
        contains=contains,
        constraints=(
            Constraint(
                product=("lr", "weight_decay"),
                below_one_minus="beta1",
                reason="the decay would reverse the sign of the weights",
            ),
        ),
    )


def _workload(name: str, *, metric: str = "accuracy", minimize: bool = False) -> WorkloadCard:
    return WorkloadCard(
        name=name,
        title=name.replace("-", " "),
        description="Small pictures of digits, and a small network.",
        source="made up",
        metric=metric,
        unit="fraction",
        direction="minimize" if minimize else "maximize",
        target=0.95,
        epochs=4,
        batch_size=32,
        examples={"train": 1000, "validation": 300, "test": 300},
        parameters=5000,
        epoch_s=0.1,
    )


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """Two optimizers, one a special case of the other, and two workloads, one per direction."""
    decayed = Condition(parameter="weight_decay", above=0.0)
    nesterov = Hyperparameter(
        name="nesterov",
        description="Look ahead.",
        unit="none",
        default=False,
        search=Choices(choices=(False, True)),
        source="made up",
        tuned=False,
    )
    adamp = _optimizer(
        "adamp",
        "AdamP",
        _number("delta", 0.1, 0.01, 1.0, tuned=False),
        _number("wd_ratio", 0.1, 0.01, 1.0, tuned=False, active_when=decayed),
        nesterov,
        contains=(Containment(optimizer="adamw", at={"delta": 0.0}),),
    )
    adamw = _optimizer("adamw", "AdamW")
    workloads = (_workload("digits-mlp"), _workload("char-lm", metric="loss", minimize=True))
    return Catalog(
        optimizers={card.name: card for card in (adamp, adamw)},
        workloads={card.name: card for card in workloads},
    )


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with its schema, copied for each test because a migration is slow."""
    path = tmp_path_factory.mktemp("fresh") / "tangent.db"
    Store.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
    """The settings of an empty environment."""
    for name in [name for name in os.environ if name.startswith("TANGENT_")]:
        monkeypatch.delenv(name)
    return ServiceSettings.load(home=tmp_path)


@pytest.fixture
def empty_store(settings: ServiceSettings, fresh_database: Path) -> Generator[Store]:
    """A store without a catalogue."""
    shutil.copy(fresh_database, settings.home / "tangent.db")
    store = Store.open(settings.database_url, migrate=False)
    yield store
    store.close()


@pytest.fixture
def store(empty_store: Store, catalog: Catalog) -> Store:
    """A store with the catalogue."""
    empty_store.announce(catalog, dispatcher="here")
    return empty_store


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_database: Path, catalog: Catalog
) -> Generator[str]:
    """The URL of a database with a catalogue."""
    server, name = None, ""
    if request.param == "sqlite":
        shutil.copy(fresh_database, tmp_path / "shared.db")
        found = f"sqlite:///{tmp_path}/shared.db"
    else:
        server = request.getfixturevalue("postgres")
        assert isinstance(server, PostgresServer)
        name = server.create()
        found = server.url(name)
    store = Store.open(found)
    store.announce(catalog, dispatcher="here")
    store.close()
    yield found
    if server is not None:
        server.drop(name)


@pytest.fixture
def secrets(store: Store) -> dict[str, str]:
    """Secrets by name: two submitters, a viewer and an admin."""
    roles: dict[str, Role] = {"alice": "submitter", "bob": "submitter", "vera": "viewer", "root": "admin"}
    return {name: store.create_token(name, role=role) for name, role in roles.items()}


@pytest.fixture
def body() -> dict[str, Any]:
    """The body of a study that can be run; without pairs, because its trials are simulated one by one."""
    return {
        "workload": "digits-mlp",
        "arms": ["adamp", "adamw"],
        "budget": {"trials_per_arm": 3, "epochs": 2},
        "search": {"paired": 0},
    }


Play = Callable[..., str]


@pytest.fixture
def play(store: Store) -> Play:
    """Submit a study and play its run: each trial reports every epoch; the last trial of each arm diverges.

    With `confirm`, each arm's best and its defaults are then trained on `confirm` fresh seeds; later arms get
    better values.
    """

    def played(body: dict[str, Any], *, close: bool = True, confirm: int = 0) -> str:
        submitted = store.submit(parse_spec(body))
        claim = store.claim_next(dispatcher="here", lease_s=LEASE_S)
        assert claim is not None
        writer = store.run_writer(claim, lease_s=LEASE_S)
        for arm in store.arms(submitted.id):
            count = arm.progress.trials
            new = [
                NewTrial(
                    arm.name,
                    n,
                    "default" if n == 0 else "sampled",
                    arm.defaults | {"lr": 0.001 * (n + 1)},
                    seed=7,
                )
                for n in range(count)
            ]
            pending = writer.create(new)
            writer.start(pending)
            for epoch in range(1, submitted.epochs + 1):
                writer.record(
                    [
                        _report(
                            trial.id,
                            trial.number,
                            epoch,
                            of=submitted.epochs,
                            diverges=trial.number == count - 1,
                        )
                        for trial in pending
                    ]
                )
        if confirm:
            play_confirmation(store, writer, submitted.id, seeds=confirm)
        writer.report_progress()
        if close:
            writer.close(StudyMove.FINISH)
        return submitted.id

    return played


def play_confirmation(store: Store, writer: RunWriter, study_id: str, *, seeds: int) -> None:
    """Train each arm's best configuration and its defaults on fresh seeds.

    The arms differ by more than the noise of seeds and searches.
    """
    study = store.study(study_id)
    for arm in store.arms(study_id):
        assert arm.best is not None
        trials = {trial.number: trial for trial in store.trials(study_id, arm=arm.name, page_size=500).items}
        configurations = [trials[number] for number in dict.fromkeys((arm.best.number, 0))]
        pending = writer.create(
            [
                NewTrial(
                    arm.name,
                    len(configurations) * n + m,
                    trial.origin,
                    trial.parameters,
                    seed=confirmation_seed(study.spec.seed, n),
                    phase="confirmation",
                    confirms=trial.number,
                )
                for n in range(seeds)
                for m, trial in enumerate(configurations)
            ]
        )
        writer.start(pending)
        for epoch in range(1, study.epochs + 1):
            writer.record([_confirming(trial, arm.position, epoch, of=study.epochs) for trial in pending])


def _confirming(trial: PendingTrial, position: int, epoch: int, *, of: int) -> Report:
    luck = 0.001 * ((trial.seed >> 3 * position) % 7)
    value = 0.3 + 0.4 * position + (0.05 if trial.confirms else 0.0) + 0.01 * epoch + luck
    measurement = _measured(epoch, value)
    if epoch < of:
        return Report(trial.id, 1, measurement)
    return Report(
        trial.id, 1, measurement, ended="completed", value=value, best_epoch=epoch, test_value=value - 0.02
    )


def _measured(epoch: int, value: float | None) -> Measurement:
    return Measurement(
        epoch=epoch,
        elapsed_s=0.5 * epoch,
        lr=0.001,
        train_loss=1.0 / epoch,
        validation_loss=1.1 / epoch,
        validation_metric=value,
    )


def _report(trial_id: str, number: int, epoch: int, *, of: int, diverges: bool) -> Report:
    value = None if diverges else 0.5 + 0.1 * number + 0.01 * epoch
    measurement = _measured(epoch, value)
    if epoch < of:
        return Report(trial_id, 1, measurement)
    if diverges:
        return Report(trial_id, 1, measurement, ended="diverged", reason="the loss is nan")
    return Report(
        trial_id,
        1,
        measurement,
        ended="completed",
        value=value,
        best_epoch=epoch,
        test_value=(value or 0.0) - 0.02,
    )


class InProcess(httpx.BaseTransport):
    """A transport that passes each request to an app in its own event loop."""

    def __init__(self, app: FastAPI) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the complete response of the app."""

        async def handle() -> httpx.Response:
            assert isinstance(request.stream, httpx.SyncByteStream)
            whole = httpx.Request(
                request.method,
                request.url,
                headers=request.headers,
                content=request.read(),
                extensions=request.extensions,
            )
            response = await self._transport.handle_async_request(whole)
            # Not decoded, because the client decodes it.
            content = b"".join([part async for part in response.aiter_raw()])
            return httpx.Response(response.status_code, headers=response.headers, content=content)

        return anyio.run(handle)


@contextmanager
def in_process(app: FastAPI, **given: Any) -> Generator[httpx.Client]:
    """Yield a client of an app that runs in this process."""
    with httpx.Client(transport=InProcess(app), base_url="http://127.0.0.1:8780", **given) as client:
        yield client


@pytest.fixture
def client_of() -> Callable[..., AbstractContextManager[httpx.Client]]:
    """`client_of(app, headers=…)`: a client of an app in this process."""
    return in_process


@pytest.fixture(scope="session")
def open_app() -> FastAPI:
    """An open service without a store, created once because it takes most of the time of a small test."""
    return create_app(ServiceSettings.load(host="127.0.0.1", port=8780))


@pytest.fixture
def http(open_app: FastAPI, store: Store) -> Generator[httpx.Client]:
    """A client of an open service with a catalogue."""
    open_app.state.store = store
    open_app.state.analyses = AnalysisCache(store)
    open_app.state.closed_studies = ClosedStudyCache(store)
    # Requests of earlier tests must not count for this one.
    open_app.state.rate_limits, open_app.state.login_limits = RateLimits(50.0), RateLimits(2.0)
    with in_process(open_app) as client:
        yield client


@pytest.fixture
def pace() -> StreamSettings:
    """Streams with short intervals."""
    return StreamSettings(poll_s=0.02, max_poll_s=0.05, heartbeat_s=0.3)


@pytest.fixture
def serve_app() -> Callable[..., AbstractContextManager[str]]:
    """`serve_app(app, port=…)`: the URL of an app behind a real server."""
    return serving


@pytest.fixture(autouse=True)
def whole_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pages wait for their first analysis on a machine of any speed."""
    monkeypatch.setattr("service.dashboard.study_page._PAGE_WAIT_S", 30.0)


@pytest.fixture
def live_app(settings: ServiceSettings, store: Store, pace: StreamSettings) -> FastAPI:
    """The app that `live` serves."""
    return create_app(settings, store, stream_settings=pace)


@pytest.fixture
def live(live_app: FastAPI) -> Generator[str]:
    """The URL of an open service behind a real server."""
    with serving(live_app) as url:
        yield url


_CHROMIUM = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    """One Chromium for the tests of a module."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture
def run(live: str) -> Callable[..., Result]:
    """Run `tangent` against the live service."""

    def ran(*arguments: str, columns: int = 200, **given: Any) -> Result:
        result = CliRunner(env={"TANGENT_URL": live, "COLUMNS": str(columns)}).invoke(
            command, list(arguments), **given
        )
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return ran
