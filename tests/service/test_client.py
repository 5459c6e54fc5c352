"""The Python client against a real service: values, safe retries, and watches over broken connections."""

import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, suppress
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from ports import free_port

from service.analysis_cache import AnalysisCache
from service.app import create_app
from service.chosen_arms import ChosenArms
from service.client import Client, ProblemError, ServiceUnreachable
from service.event_streams import StreamSettings
from service.settings import ServiceSettings
from studies.errors import TangentError
from studies.extension import Extension
from studies.spec import parse_spec
from studies.states import StudyMove, StudyState, TrialState
from studies.store import Store
from studies.views import EventView

__all__: list[str] = []

Body = dict[str, Any]
Play = Callable[..., str]
ServeApp = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def client(live: str) -> Generator[Client]:
    with Client(live) as client:
        yield client


def test_the_client_reads_what_is_stored(client: Client, store: Store, body: Body, play: Play) -> None:
    study = play(body)
    assert client.study(study) == store.study(study)
    assert client.studies() == store.studies()
    assert client.arms(study) == store.arms(study)
    assert [(item.arm, item.best) for item in client.best(study)] == [
        (arm.name, arm.best) for arm in store.arms(study)
    ]
    assert client.curves(study) == store.curves(study)
    assert client.trials(study, order="-value") == store.trials(study, order="-value")
    assert client.trial(f"{study}.adamp.0") == store.trial(f"{study}.adamp.0")
    assert client.measurements(f"{study}.adamp.2") == store.measurements(f"{study}.adamp.2")
    assert client.trial_layers(f"{study}.adamp.0") == store.trial_layers(f"{study}.adamp.0")
    assert client.study_layers(study) == store.study_layers(study)
    assert client.events(study).items == store.events(study)
    assert client.optimizers() == store.catalog().optimizers
    assert client.workloads() == store.catalog().workloads
    assert client.health().status == "up"
    assert client.readiness().dispatchers == 1


def test_a_study_can_be_submitted_as_a_spec_or_with_shorthands(client: Client, body: Body) -> None:
    first = client.submit(body)
    second = client.submit(parse_spec(body))
    assert first.id != second.id
    assert first.spec == second.spec == parse_spec(body)


def test_the_client_reads_the_services_analyses(
    client: Client, live_app: FastAPI, body: Body, play: Play, store: Store
) -> None:
    first, second = play(body | {"suite": "small"}, confirm=3), play(body, confirm=3)
    analyses: AnalysisCache = live_app.state.analyses
    assert client.analysis(first) == analyses.study(first)
    assert client.suites() == store.suites()
    assert client.suite("small") == analyses.suite("small")
    assert client.comparison([first, second]) == analyses.comparison(ChosenArms.of([first, second]))
    arms = [f"{first}.adamp", f"{second}.adamw"]
    assert client.comparison(arms=arms) == analyses.comparison(ChosenArms.of([], arms))
    assert [found.id for found in client.every_study(suite="small")] == [first]
    assert [trial.id for trial in client.every_trial(first, phase="confirmation")] == [
        t.id for t in store.every_trial(first, phase="confirmation")
    ]


def test_a_study_can_be_confirmed_and_extended(client: Client, store: Store, body: Body, play: Play) -> None:
    study = play(body)
    assert client.validate_extension(study, {"trials_per_arm": 4}).trials == 8
    with pytest.raises(ProblemError) as raised:
        client.confirm(study, if_version=1)
    assert raised.value.slug == "version-conflict"
    after = client.confirm(study, if_version=store.study(study).version)
    assert (after.state, after.spec.confirmation.seeds) == (StudyState.QUEUED, 10)
    client.stop(study)
    assert client.confirm(study, seeds=12).spec.confirmation.seeds == 12
    client.stop(study)
    assert client.extend(study, Extension(trials_per_arm=7)).spec.budget.trials_per_arm == 7
    client.stop(study)
    assert client.extend(study, {"arms": [{"optimizer": "adamw", "name": "again"}]}).arms == (
        "adamp",
        "adamw",
        "again",
    )


def test_a_study_can_be_cloned_and_a_key_creates_one_clone(client: Client, store: Store, body: Body) -> None:
    study = store.submit(parse_spec(body)).id
    assert client.clone(study).spec == parse_spec(body)
    first, second = (client.clone(study, {"seed": 3}, idempotency_key="one") for _ in range(2))
    assert (first.id, first.spec.seed) == (second.id, 3)
    assert client.validate_clone(study, {"budget": {"trials_per_arm": 10}}).trials == 20
    assert store.studies().total == 3


def test_a_watch_of_an_extended_study_continues_past_its_first_completion(
    client: Client, store: Store, body: Body, play: Play
) -> None:
    study = play(body)
    client.confirm(study)
    store.move(study, StudyMove.STOP)
    seen = tuple(client.watch(study))
    assert seen == store.events(study)
    assert [event.data["to"] for event in seen if event.kind == "study.state"].count("completed") == 2


def test_a_submission_with_a_key_creates_one_study(client: Client, body: Body) -> None:
    assert client.submit(body, idempotency_key="one").id == client.submit(body, idempotency_key="one").id


def test_validating_stores_nothing(client: Client, store: Store, body: Body) -> None:
    assert client.validate(body).trials == 6
    assert store.studies().total == 0


def test_every_study_and_every_trial_come_page_by_page(
    client: Client, store: Store, body: Body, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.client._PAGE_SIZE", 2)
    study = play(body)
    others = [store.submit(parse_spec(body | {"seed": seed})).id for seed in range(1, 5)]
    assert [found.id for found in client.every_study()] == [*reversed(others), study]
    assert [found.id for found in client.every_study(state=StudyState.COMPLETED)] == [study]
    assert [trial.id for trial in client.every_trial(study)] == [
        trial.id for trial in store.every_trial(study)
    ]
    assert [trial.number for trial in client.every_trial(study, arm="adamw", order="value")] == [1, 0, 2]
    assert len(list(client.every_trial(study, state=TrialState.DIVERGED))) == 2


def test_a_study_can_be_paused_and_cancelled_by_the_client(client: Client, store: Store, body: Body) -> None:
    study = store.submit(parse_spec(body)).id
    assert client.pause(study).state is StudyState.PAUSED
    assert client.resume(study).state is StudyState.QUEUED
    with pytest.raises(ProblemError) as raised:
        client.stop(study, if_version=1)
    assert raised.value.slug == "version-conflict"
    assert client.stop(study, if_version=store.study(study).version).state is StudyState.COMPLETED
    assert client.cancel(client.submit(body).id).state is StudyState.CANCELLED
    assert client.move(client.submit(body).id, StudyMove.PAUSE).verbs == ("resume", "stop", "cancel")


def test_a_problem_is_raised_with_all_its_fields(client: Client, body: Body) -> None:
    with pytest.raises(ProblemError) as raised:
        client.submit(body | {"arms": ["adampp"], "workload": "nothing"})
    error = raised.value
    assert isinstance(error, TangentError)
    assert (error.status, error.slug) == (422, "spec-invalid")
    assert [fault.pointer for fault in error.errors] == ["/workload", "/arms/0/optimizer"]
    assert "did you mean 'adamp'?" in str(error)


@pytest.mark.parametrize(
    "study_id", ["zzzzzzzz", "", "a/b", "../../etc", "a b", "ü", "%00", ":pause", "x" * 300]
)
def test_an_id_is_quoted_as_one_path_segment(client: Client, study_id: str) -> None:
    with pytest.raises(ProblemError) as raised:
        client.study(study_id)
    assert raised.value.status == 404


def test_a_token_is_sent(live: str, store: Store) -> None:
    secret = store.create_token("alice", role="viewer")
    with pytest.raises(ProblemError) as raised, Client(live) as client:
        client.studies()
    assert raised.value.slug == "unauthenticated"
    with Client(live, secret) as client:
        assert client.studies().total == 0


def test_a_missing_service_is_a_one_line_error() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url) as client:
        for ask in (client.studies, lambda: client.submit({}), lambda: next(client.watch("abc23456"))):
            with pytest.raises(ServiceUnreachable, match=url):
                ask()


@pytest.mark.parametrize(
    "url",
    ["nonsense", "127.0.0.1:8780", "ftp://127.0.0.1", "http://", "http://[::1", "http://127.0.0.1:port"],
)
def test_an_invalid_url_is_a_one_line_error(url: str) -> None:
    with pytest.raises(ServiceUnreachable) as raised, Client(url) as client:
        client.studies()
    assert "\n" not in str(raised.value)


def test_another_service_is_not_taken_for_tangent(serve_app: ServeApp, settings: ServiceSettings) -> None:
    other = FastAPI()
    other.state.streams = create_app(settings).state.streams

    @other.get("/v1/studies")
    def _studies() -> list[str]:
        return ["something else"]

    with serve_app(other) as url, Client(url) as client:
        for ask in (client.studies, client.optimizers):
            with pytest.raises(ServiceUnreachable, match="not a Tangent service"):
                ask()


class Cutting:
    """A proxy to a service that breaks its connections.

    Args:
        target: port of the service.
        cuts: response bytes after which each connection is cut; None for no cut. Later connections
        are not cut.
        port: its own port; by default a free one.
    """

    def __init__(self, target: int, cuts: list[int | None], *, port: int = 0) -> None:
        self._target = target
        self._cuts = cuts
        self._listener = socket.create_server(("127.0.0.1", port))
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Accept no more connections."""
        # Otherwise it would accept one more connection.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            cut = self._cuts[self.connections] if self.connections < len(self._cuts) else None
            self.connections += 1
            far = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._pass_on, args=(near, far, None), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(far, near, cut), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        try:
            while content := source.recv(1024 if limit is None else min(1024, limit - passed) or 1):
                if limit is not None and passed >= limit:
                    break
                sink.sendall(content)
                passed += len(content)
        except OSError:
            pass
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry without delay."""
    monkeypatch.setattr("service.client._RETRY_S", 0.02)


@pytest.mark.usefixtures("impatient")
def test_a_watch_over_a_breaking_connection_yields_each_event_once(
    live: str, store: Store, body: Body, play: Play
) -> None:
    study = play(body)
    line = Cutting(int(live.rsplit(":", 1)[1]), [900, 0, 1500, 700, 2500, 1])
    with closing(line), Client(line.url) as client:
        # The first connection must deliver something: a service that never answers is an error at once.
        assert tuple(client.watch(study)) == store.events(study)
        assert line.connections > 4


@pytest.mark.usefixtures("impatient")
def test_a_submission_over_a_breaking_connection_creates_one_study(
    live: str, store: Store, body: Body
) -> None:
    line = Cutting(int(live.rsplit(":", 1)[1]), [40, 0])
    with closing(line), Client(line.url) as client:
        study = client.submit(body)
        assert line.connections == 3
    assert [found.id for found in store.studies().items] == [study.id]


def test_a_submission_before_a_restart_creates_one_study(live: str, store: Store, body: Body) -> None:
    target = int(live.rsplit(":", 1)[1])
    breaks = Cutting(target, [40] * 9)
    port = int(breaks.url.rsplit(":", 1)[1])
    again: list[Cutting] = []

    def restart() -> None:
        while not store.studies().total:
            time.sleep(0.01)
        breaks.close()
        time.sleep(2.0)
        again.append(Cutting(target, [], port=port))

    restarting = threading.Thread(target=restart)
    restarting.start()
    with Client(breaks.url) as client:
        study = client.submit(body)
    restarting.join()
    again[0].close()
    assert again[0].connections >= 1
    assert [found.id for found in store.studies().items] == [study.id]


def test_a_submission_with_an_unknown_outcome_says_so(
    live: str, body: Body, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.transport._RETRY_SUBMISSION_S", 0.1)
    line = Cutting(int(live.rsplit(":", 1)[1]), [0] * 9)
    with (
        closing(line),
        Client(line.url) as client,
        pytest.raises(ServiceUnreachable, match="look for it before you submit it again"),
    ):
        client.submit(body)


@pytest.mark.usefixtures("impatient")
def test_a_move_over_a_breaking_connection_is_not_repeated(live: str, store: Store, body: Body) -> None:
    study = store.submit(parse_spec(body)).id
    line = Cutting(int(live.rsplit(":", 1)[1]), [40])
    with closing(line), Client(line.url) as client:
        with pytest.raises(ServiceUnreachable, match="broke"):
            client.pause(study)
        assert line.connections == 1
    assert store.study(study).version == 2


@pytest.mark.usefixtures("impatient")
def test_a_watch_survives_a_restart_of_the_service(
    settings: ServiceSettings, store: Store, pace: StreamSettings, serve_app: ServeApp, body: Body
) -> None:
    study = store.submit(parse_spec(body)).id
    port = free_port()
    seen: list[EventView] = []

    def watch() -> None:
        with Client(f"http://127.0.0.1:{port}") as client:
            seen.extend(client.watch(study))

    watcher = threading.Thread(target=watch)
    with serve_app(create_app(settings, store, stream_settings=pace), port):
        watcher.start()
        store.move(study, StudyMove.PAUSE)
        deadline = time.monotonic() + 5
        while not seen:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    store.move(study, StudyMove.RESUME)
    with serve_app(create_app(settings, store, stream_settings=pace), port):
        store.move(study, StudyMove.CANCEL)
        watcher.join(10)
    assert tuple(seen) == store.events(study)


@pytest.mark.usefixtures("impatient")
def test_a_watch_gives_up_when_the_service_stays_down(
    settings: ServiceSettings, store: Store, pace: StreamSettings, serve_app: ServeApp, body: Body
) -> None:
    study = store.submit(parse_spec(body)).id
    with serve_app(create_app(settings, store, stream_settings=pace)) as url:
        events = Client(url).watch(study, patience_s=0.2)
        assert next(events).kind == "study.submitted"
    with pytest.raises(ServiceUnreachable, match="no service answers"):
        next(events)


def test_a_watch_of_a_closed_study_ends_and_one_beyond_its_end_is_empty(
    client: Client, store: Store, body: Body, play: Play
) -> None:
    study = play(body)
    whole = tuple(client.watch(study))
    assert whole == store.events(study)
    assert tuple(client.watch(study, after=whole[-1].id)) == ()
    assert tuple(client.watch(study, after=whole[4].id)) == whole[5:]


def test_a_watch_of_an_unknown_study_is_refused(client: Client) -> None:
    with pytest.raises(ProblemError) as raised:
        next(client.watch("zzzzzzzz"))
    assert raised.value.slug == "study-not-found"


def test_proxies_are_not_used_for_this_machine(live: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{live}/healthz")
    with Client(live) as client:
        assert client.health().status == "up"
