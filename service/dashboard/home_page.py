"""The list of studies, with the queue and the health of the cluster."""

__all__ = ["HomeQuery", "home_html", "home_update_html"]

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request
from pydantic import ConfigDict, model_validator

from service.analysis_cache import AnalysisCache
from service.cluster_status import ClusterStatus
from service.dashboard.leader_text import describe_leader
from service.dashboard.rendering import address, render
from service.dashboard.study_page import OUT_OF_BAND
from service.public_address import public_url
from service.query_fields import PageToken
from service.study_list_query import StudyListQuery
from studies.actors import Actor, may_submit
from studies.cluster_views import ClusterView
from studies.states import CLOSED_STUDY_STATES, StudyState
from studies.store import Store
from studies.study_filter import StudyFilter, StudyOrder
from studies.views import Page, StudySummary

_STUDIES_PER_PAGE: Final = 25
_ORDERS: Final[dict[StudyOrder, str]] = {
    "newest": "newest first",
    "oldest": "oldest first",
    "ended": "ended last first",
    "name": "name",
    "state": "state",
}


class HomeQuery(StudyListQuery):
    """The query of the list: its filters and its order, all of which stay in the address."""

    model_config = ConfigDict(extra="ignore")

    page_token: PageToken = None

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, data: Any) -> Any:
        # A form sends an empty field as an empty value.
        return {name: value for name, value in data.items() if value != ""}

    @property
    def is_filtered(self) -> bool:
        """Whether it leaves out any study."""
        return self.chosen != StudyFilter(order=self.order)

    def address(self, path: str, **changes: object) -> str:
        """Return the address of a path with this query and some changes; default values are left out.

        A change of anything but the page leads to the first page.
        """
        query = self.model_dump(mode="json") | {"page_token": None} | changes
        default = HomeQuery().model_dump(mode="json")
        given = {name: value for name, value in query.items() if value != default.get(name)}
        return address(path, **{name: "true" if value is True else value for name, value in given.items()})


def home_html(request: Request, query: HomeQuery, *, reader: Actor) -> str:
    """Return the page.

    Raises:
        SpecInvalid: the page token is not valid.
    """
    return render("studies.html", **_context(request, query, reader, _read(request, query)))


def home_update_html(request: Request, query: HomeQuery, *, reader: Actor, seen: str) -> str | None:
    """Return the parts of the page that change, or None if they are as in version `seen`.

    Raises:
        SpecInvalid: the page token is not valid.
    """
    listed = _read(request, query)
    if listed.version == seen:
        return None
    return render("home/update.html", **_context(request, query, reader, listed), oob=OUT_OF_BAND)


@dataclass(frozen=True)
class _Listed:
    """What decides whether a reader's list is up to date."""

    page: Page[StudySummary]
    ids: list[tuple[str, str]]
    verdicts: dict[str, str]
    cluster: ClusterView

    @cached_property
    def version(self) -> str:
        """A short text that changes with anything that a reader would notice."""
        studies = [study.model_dump(exclude=_NOT_LISTED) for study in self.page.items]
        page = studies, self.page.total, self.page.next_page_token
        shown = (page, self.verdicts, _rounded(self.cluster))
        return f"{zlib.crc32(repr(shown).encode('utf-8', 'replace')):x}"


def _read(request: Request, query: HomeQuery) -> _Listed:
    store: Store = request.app.state.store
    status: ClusterStatus = request.app.state.cluster
    analyses: AnalysisCache = request.app.state.analyses
    page = store.studies(query.chosen, page_size=_STUDIES_PER_PAGE, page_token=query.page_token)
    ids = [("study", study.id) for study in page.items if study.progress.finished]
    verdicts = analyses.phrases.of([study_id for _, study_id in ids])
    return _Listed(page, ids, verdicts, status.read(store))


def _context(request: Request, query: HomeQuery, reader: Actor, listed: _Listed) -> dict[str, Any]:
    store: Store = request.app.state.store
    page, cluster, version, ids = listed.page, listed.cluster, listed.version, listed.ids
    running = cluster.studies.get(StudyState.RUNNING, 0)
    token = {} if query.page_token is None else {"page_token": query.page_token}
    return {
        "page": page,
        "query": query,
        "shown_with": partial(query.address, "/"),
        "orders": _ORDERS,
        "has_archived": not page.total and store.studies(_ARCHIVED, page_size=1).total > 0,
        "verdicts": listed.verdicts,
        "leaders": _leaders(store, page.items),
        "closed_states": CLOSED_STUDY_STATES,
        "may_submit": may_submit(reader),
        "here": "/",
        "base_url": public_url(request),
        "cluster": cluster,
        "machines": [each.machine for each in cluster.dispatchers if each.is_alive and each.machine],
        "version": version,
        "live_url": query.address("/live", seen=version, **token),
        "tab_title": f"{running} running · Studies" if running else "Studies",
        "tab_icon": "icon-running.svg" if running else "icon.svg",
        "json_url": query.address("/v1/studies", page_size=_STUDIES_PER_PAGE, **token),
        "more_json": ["/v1/cluster", *([f"/v1/verdicts?{urlencode(ids)}"] if ids else [])],
    }


# An update for each epoch of any study would send the list to every reader all the time.
_NOT_LISTED: Final = {"progress": {"epochs": True, "epochs_done": True}}
_ARCHIVED: Final = StudyFilter(is_archived=True)


def _leaders(store: Store, studies: Sequence[StudySummary]) -> dict[str, str | None]:
    """Return the best of each study's search so far, in words."""
    catalog = store.catalog()
    cards, titles = catalog.workloads, {card.name: card.title for card in catalog.optimizers.values()}
    with_results = {
        study.id: study for study in studies if study.progress.completed and study.workload in cards
    }
    return {
        study_id: describe_leader(best, cards[with_results[study_id].workload], titles)
        for study_id, best in store.best_values(list(with_results)).items()
    }


def _rounded(cluster: ClusterView) -> tuple[object, ...]:
    """Return what a reader would notice of a change: not the time, and of a machine only whole tenths."""
    machines = [
        (
            each.cpus,
            each.gpus,
            each.memory_bytes,
            round(10 * each.cpu_share),
            round(10 * each.memory_used_bytes / each.memory_bytes),
            each.workers,
            each.warm_workers,
        )
        for dispatcher in cluster.dispatchers
        if dispatcher.is_alive and (each := dispatcher.machine) is not None
    ]
    alive = sum(dispatcher.is_alive for dispatcher in cluster.dispatchers)
    unseen = {"at", "dispatchers"}
    return (
        *(getattr(cluster, name) for name in ClusterView.model_fields if name not in unseen),
        alive,
        machines,
    )
