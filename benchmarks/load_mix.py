"""The mix of requests in the load test: their kinds, frequencies, callers and studies."""

__all__ = ["Mix"]

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence

from load_traffic import Request
from postgres import Postgres

from studies.store import Store

_HOT = 50
_LIVE = re.compile(rb'hx-get="(/studies/[^"]*/live[^"]*)"')
_NEW = {
    "workload": "digits-mlp",
    "arms": ["adamp", "adamw"],
    "budget": {"trials_per_arm": 4, "epochs": 2},
    "sampler": "random",
    "confirmation": {"seeds": 0},
}


def _pages(store: Store, study_id: str) -> list[str]:
    """Return the cursors of every fifth page of a study's trials."""
    found: list[str] = []
    page = store.trials(study_id, page_size=500)
    while page.next_page_token is not None:
        found.append(page.next_page_token)
        page = store.trials(study_id, page_size=500, page_token=page.next_page_token)
    return found


class Mix:
    """Random requests in the proportions of real users.

    A third of the requests about a study are about a running one; most others are about a few popular ones.
    """

    def __init__(
        self, store: Store, server: Postgres, tokens: Sequence[str], *, running: Sequence[str], seed: int = 3
    ) -> None:
        """Read what the mix needs from the database.

        Args:
            store: the database.
            server: the database's server.
            tokens: tokens of the callers, used in turn.
            running: ids of the running studies.
            seed: seed of the requests.
        """
        self._rng = random.Random(seed)  # not for secrets
        self._tokens = list(tokens)
        self._running = list(running)
        with server.connect() as connection:
            rows = connection.execute(
                b"SELECT study_id, sum(trials) FROM arm GROUP BY study_id ORDER BY study_id"
            ).fetchall()
            trials = connection.execute(
                b"SELECT id FROM trial WHERE epochs_done > 0 ORDER BY hashtext(id) LIMIT 2000"
            ).fetchall()
        self._small = [row[0] for row in rows if row[1] < 1000 and row[0] not in running]
        self._large = [row[0] for row in rows if 1000 <= row[1] < 5000]
        self._giant = [row[0] for row in rows if row[1] >= 5000]
        self._trials = [row[0] for row in trials]
        self._hot = self._rng.sample(self._small, min(_HOT, len(self._small)))
        self._arms = {
            study_id: store.study(study_id).arms for study_id in (*self._large, *self._giant, *self._hot)
        }
        self._etags: dict[str, str] = {}
        self._pages: list[str] = []
        self._deep = [
            (study_id, page)
            for study_id in (*self._giant, *self._large[:1])
            for page in _pages(store, study_id)
        ]
        self._live: dict[str, str] = {}
        self._mine: list[tuple[str, str]] = []
        self._n = 0
        self.on_begin: Callable[[], None] = lambda: None
        kinds: list[tuple[float, Callable[[str], Request]]] = [
            (8, self._list),
            (6, self._filtered),
            (3, self._next_page),
            (14, self._study),
            (6, self._arms_of),
            (8, self._trials_of),
            (4, self._best_trials),
            *([(3.0, self._deep_page)] if self._deep else []),
            (6, self._trial),
            (10, self._measurements),
            (5, self._curves),
            (5, self._best),
            (4, self._analysis),
            (6, self._events),
            (3, self._home),
            (3, self._study_page),
            (3, self._update),
            (1, self._trial_page),
            (0.5, self._submit),
            (0.5, self._cancel),
            (0.5, lambda token: Request("metrics", "/metrics", token)),
            (0.5, lambda token: Request("catalogue", "/v1/optimizers", token)),
        ]
        self._weights = [weight for weight, _ in kinds]
        self._kinds = [make for _, make in kinds]

    def begin(self) -> None:
        """Mark the start of the measurement."""
        self.on_begin()

    def choose(self) -> Request:
        """Return the next request."""
        self._n += 1
        (make,) = self._rng.choices(self._kinds, self._weights)
        return make(self._tokens[self._n % len(self._tokens)])

    def _any(self) -> str:
        (among,) = self._rng.choices(
            [
                self._running or self._hot,
                self._hot,
                self._small,
                self._large or self._small,
                self._giant or self._small,
            ],
            [30, 50, 15, 4, 1],
        )
        return self._rng.choice(among)

    def _kind(self, name: str, study_id: str) -> str:
        if study_id in self._running:
            return f"{name}, running"
        return (
            f"{name}, 20,000 trials"
            if study_id in self._giant
            else f"{name}, 2,000 trials"
            if study_id in self._large
            else name
        )

    def _list(self, token: str) -> Request:
        return Request("studies", "/v1/studies", token, then=self._note_page)

    def _note_page(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        del headers
        if status == 200 and len(self._pages) < 100:
            found = json.loads(body)["next_page_token"]
            self._pages += [] if found is None else [found]

    def _filtered(self, token: str) -> Request:
        by = self._rng.choice(
            [
                "state=completed",
                "state=running",
                "workload=digits-cnn",
                "workload=digits-mlp&state=completed",
                "suite=suite-3",
            ]
        )
        return Request("studies, filtered", f"/v1/studies?{by}", token)

    def _next_page(self, token: str) -> Request:
        if not self._pages:
            return self._list(token)
        return Request(
            "studies, next page",
            f"/v1/studies?page_token={self._rng.choice(self._pages)}",
            token,
            then=self._note_page,
        )

    def _study(self, token: str) -> Request:
        study_id = self._any()
        known = self._etags.get(study_id)

        def note(status: int, headers: Mapping[str, str], body: bytes) -> None:
            del body
            if status == 200:
                self._etags[study_id] = headers["etag"]

        headers = {"If-None-Match": known} if known is not None and self._rng.random() < 0.5 else {}
        return Request(
            self._kind("study", study_id), f"/v1/studies/{study_id}", token, headers=headers, then=note
        )

    def _part(self, part: str, token: str, query: str = "") -> Request:
        study_id = self._any()
        return Request(self._kind(part, study_id), f"/v1/studies/{study_id}/{part}{query}", token)

    def _arms_of(self, token: str) -> Request:
        return self._part("arms", token)

    def _trials_of(self, token: str) -> Request:
        return self._part("trials", token)

    def _best_trials(self, token: str) -> Request:
        return self._part("trials", token, "?order=value&state=completed&page_size=25")

    def _deep_page(self, token: str) -> Request:
        study_id, page = self._rng.choice(self._deep)
        return Request(
            self._kind("trials, any page", study_id),
            f"/v1/studies/{study_id}/trials?page_token={page}",
            token,
        )

    def _trial(self, token: str) -> Request:
        return Request("trial", f"/v1/trials/{self._rng.choice(self._trials)}", token)

    def _measurements(self, token: str) -> Request:
        return Request("measurements", f"/v1/trials/{self._rng.choice(self._trials)}/measurements", token)

    def _curves(self, token: str) -> Request:
        return self._part("curves", token)

    def _best(self, token: str) -> Request:
        return self._part("best", token)

    def _analysis(self, token: str) -> Request:
        return self._part("analysis", token)

    def _events(self, token: str) -> Request:
        study_id = self._any()
        after = self._rng.randrange(0, 200)
        path = f"/v1/studies/{study_id}/events?page_size=100&after={after}"
        return Request("events", path, token, headers={"Accept": "application/json"})

    def _home(self, token: str) -> Request:
        return Request("page: home", "/", token, headers={"Accept-Encoding": "gzip"})

    def _study_page(self, token: str) -> Request:
        study_id = self._any()

        def note(status: int, headers: Mapping[str, str], body: bytes) -> None:
            del headers
            found = _LIVE.search(body)
            if status == 200 and found is not None:
                self._live[study_id] = found[1].decode().replace("&amp;", "&")

        # Uncompressed, so that the generator can find the links that a browser would load next without the
        # cost of unpacking.
        return Request(self._kind("page: study", study_id), f"/studies/{study_id}", token, then=note)

    def _update(self, token: str) -> Request:
        if not self._live:
            return self._study_page(token)
        study_id = self._rng.choice(list(self._live))

        def note(status: int, headers: Mapping[str, str], body: bytes) -> None:
            del headers
            found = _LIVE.search(body)
            if status == 200 and found is not None:
                self._live[study_id] = found[1].decode().replace("&amp;", "&")

        return Request(
            "page: study, update", self._live[study_id], token, headers={"HX-Request": "true"}, then=note
        )

    def _trial_page(self, token: str) -> Request:
        return Request(
            "page: trial",
            f"/trials/{self._rng.choice(self._trials)}",
            token,
            headers={"Accept-Encoding": "gzip"},
        )

    def _submit(self, token: str) -> Request:
        def note(status: int, headers: Mapping[str, str], body: bytes) -> None:
            del headers
            if status == 201:
                self._mine.append((json.loads(body)["id"], token))

        body = json.dumps(_NEW).encode()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": f"load-{self._n}-{self._rng.random()}",
        }
        return Request("submit", "/v1/studies", token, method="POST", headers=headers, body=body, then=note)

    def _cancel(self, token: str) -> Request:
        if not self._mine:
            return self._submit(token)
        study_id, owner = self._mine.pop(0)
        return Request("cancel", f"/v1/studies/{study_id}:cancel", owner, method="POST")
