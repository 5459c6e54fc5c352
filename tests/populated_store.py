"""A populated store for attack tests: tokens of every role, studies in several states, and a suite."""

from dataclasses import dataclass
from typing import Any

import httpx
from catalogs import catalog, study_body
from fastapi import FastAPI
from trained_studies import Trained

from studies.actors import Actor
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store
from studies.views import Role

__all__ = ["AttackTarget", "PopulatedStore", "populate"]

_ROLES: dict[str, Role] = {"root": "admin", "alice": "submitter", "bob": "submitter", "vera": "viewer"}


@dataclass(frozen=True)
class PopulatedStore:
    """The ids and secrets in a populated store.

    Attributes:
        secrets: by token name: the admin root, the submitters alice and bob, the viewer vera.
        completed: three completed and confirmed studies in the suite `small`, two of them of one workload.
        running: a study with trials in training.
        queued: a queued study that alice owns.
        cancelled: a cancelled study.
        trials: trials of the first completed study.
    """

    secrets: dict[str, str]
    completed: tuple[str, str, str]
    running: str
    queued: str
    cancelled: str
    trials: tuple[str, ...]

    @property
    def studies(self) -> list[str]:
        """The ids of all studies."""
        return [*self.completed, self.running, self.queued, self.cancelled]

    def bearer(self, name: str) -> dict[str, str]:
        """Return the authorization header for a token."""
        return {"authorization": f"Bearer {self.secrets[name]}"}


@dataclass(frozen=True)
class AttackTarget:
    """A service under attack.

    Attributes:
        url: its URL.
        data: the contents of its store.
        store: its store.
        app: the application.
    """

    url: str
    data: PopulatedStore
    store: Store
    app: FastAPI

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])

    def client(self, name: str | None = None, **given: object) -> httpx.Client:
        """Return an HTTP client with or without a token."""
        headers = {} if name is None else self.data.bearer(name)
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, **given)  # pyright: ignore[reportArgumentType]


def populate(store: Store) -> PopulatedStore:
    """Populate an empty store."""
    store.announce(catalog(), dispatcher="here")
    secrets = {name: store.create_token(name, role=role) for name, role in _ROLES.items()}
    budget = {"trials_per_arm": 4, "epochs": 3}
    differences: tuple[dict[str, Any], ...] = ({}, {"workload": "char-lm"}, {"seed": 5})
    made = [
        Trained(store, suite="small", budget=budget, confirmation={"seeds": 3}, **fields)
        .train()
        .confirm()
        .close()
        .id
        for fields in differences
    ]
    running = Trained(store, pruner="asha", budget={"trials_per_arm": 6, "epochs": 9}).train(3)
    alice = Actor(name="alice", role="submitter")
    queued, cancelled = (store.submit(parse_spec(study_body()), by=alice).id for _ in range(2))
    store.move(cancelled, StudyMove.CANCEL)
    trials = tuple(trial.id for trial in store.every_trial(made[0], phase=None))
    return PopulatedStore(secrets, (made[0], made[1], made[2]), running.id, queued, cancelled, trials)
