"""The dashboard's routes: pages to read, parts of them for live updates, and as plain forms a study's verbs and submissions."""

__all__ = ["dashboard_router", "static_files"]

import gzip
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from service.analyses import Analyses
from service.auth import Permitted, permitted
from service.dashboard.assets import Assets, assets
from service.dashboard.captions import leader
from service.dashboard.forms import Form, extension_of, version_of
from service.dashboard.joint_pages import comparison_html, suite_html, suites_html
from service.dashboard.rendering import render
from service.dashboard.situation import is_attended
from service.dashboard.study_page import StudyPageQuery, study_html, study_update_html
from service.dashboard.submission_page import faulty_html, submission_html, submitted_spec
from service.dashboard.theme import CONTENT_SECURITY_POLICY
from service.dashboard.trial_page import over, trial_html, trial_update_html
from service.dashboard.trials_csv import trials_csv
from studies.analysis.numbers import scalar
from studies.catalog import OptimizerCard
from studies.errors import SpecInvalid
from studies.extension import confirming
from studies.states import StudyMove, StudyState
from studies.store import Store

StudyId = Annotated[str, Path(pattern=r"^[a-z0-9]{1,16}$")]
SuiteName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
TrialId = Annotated[str, Path(pattern=r"^[a-z0-9.-]{1,96}$")]
Seen = Annotated[str, Query(max_length=200)]

_STUDIES_PER_PAGE = 25


def static_files() -> Assets:
    """Return the ASGI application of scripts and styles, to be mounted at /static."""
    return assets()


def dashboard_router() -> APIRouter:
    """Return the routes of all pages; they read `app.state.store` and ask `service.auth` who may."""
    router = APIRouter(dependencies=[Depends(permitted)], include_in_schema=False, default_response_class=HTMLResponse)
    router.add_api_route("/", _studies)
    router.add_api_route("/optimizers", _optimizers)
    router.add_api_route("/workloads", _workloads)
    router.add_api_route("/suites", _suites)
    router.add_api_route("/suites/{name}", _suite)
    router.add_api_route("/compare", _compare)
    router.add_api_route("/new", _new)
    router.add_api_route("/new", _submit, methods=["POST"])
    router.add_api_route("/studies/{study_id}", _study)
    router.add_api_route("/studies/{study_id}/live", _study_update)
    router.add_api_route("/studies/{study_id}/trials.csv", _study_csv)
    router.add_api_route("/studies/{study_id}/confirm", _confirm, methods=["POST"])
    router.add_api_route("/studies/{study_id}/extend", _extend, methods=["POST"])
    router.add_api_route("/studies/{study_id}/{verb}", _move, methods=["POST"])
    router.add_api_route("/trials/{trial_id}", _trial)
    router.add_api_route("/trials/{trial_id}/live", _trial_update)
    return router


def _store(request: Request) -> Store:
    return request.app.state.store


def _analyses(request: Request) -> Analyses:
    return request.app.state.analyses


def _page(request: Request, html: str, *, status: int = 200) -> Response:
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Vary": "Accept-Encoding"}
    content = html.encode()
    if "gzip" in request.headers.get("accept-encoding", ""):
        # Figures and tables shrink to a tenth; a page holds no secret that its length could tell.
        content, headers["Content-Encoding"] = gzip.compress(content, compresslevel=5, mtime=0), "gzip"
    return Response(content, status_code=status, media_type="text/html; charset=utf-8", headers=headers)


def _update(request: Request, html: str | None) -> Response:
    # 204 tells htmx to leave the page as it is.
    return Response(status_code=204) if html is None else _page(request, html)


def _studies(
    request: Request,
    state: StudyState | None = None,
    workload: Annotated[str | None, Query(max_length=64)] = None,
    suite: Annotated[str | None, Query(max_length=64)] = None,
    page_token: Annotated[str | None, Query(max_length=512)] = None,
) -> Response:
    store = _store(request)
    page = store.studies(state=state, workload=workload, suite=suite, page_size=_STUDIES_PER_PAGE, page_token=page_token)
    cards = store.catalog().workloads
    leaders = {
        study.id: leader(store.arms(study.id), cards[study.workload]) for study in page.items if study.progress.completed and study.workload in cards
    }
    context: dict[str, Any] = {"page": page, "wanted": state and state.value, "workload": workload, "suite": suite, "token": page_token}
    return _page(
        request,
        render(
            "studies.html",
            **context,
            leaders=leaders,
            here="/",
            base_url=str(request.base_url),
            has_dispatcher=is_attended(store.dispatchers(), datetime.now(UTC)),
            json_url="/v1/studies",
        ),
    )


def _optimizers(request: Request) -> Response:
    cards = [(card, _hyperparameters(card)) for card in _store(request).catalog().optimizers.values()]
    return _page(request, render("optimizers.html", cards=cards, here="/optimizers", json_url="/v1/optimizers"))


def _hyperparameters(card: OptimizerCard) -> list[tuple[str, ...]]:
    return [
        (
            h.name,
            scalar(h.default),
            over(h.search),
            "searched" if h.tuned else "fixed",
            "" if h.bounds is None else str(h.bounds).replace(" ", "\N{NO-BREAK SPACE}"),
            h.description,
        )
        for h in card.hyperparameters
    ]


def _workloads(request: Request) -> Response:
    cards = list(_store(request).catalog().workloads.values())
    return _page(request, render("workloads.html", cards=cards, here="/workloads", json_url="/v1/workloads"))


def _study(request: Request, reader: Permitted, study_id: StudyId, query: Annotated[StudyPageQuery, Query()]) -> Response:
    return _page(request, study_html(_store(request), _analyses(request), study_id, query, reader=reader))


def _study_update(request: Request, reader: Permitted, study_id: StudyId, query: Annotated[StudyPageQuery, Query()], seen: Seen = "") -> Response:
    return _update(request, study_update_html(_store(request), _analyses(request), study_id, query, reader=reader, seen=seen))


def _study_csv(request: Request, study_id: StudyId, query: Annotated[StudyPageQuery, Query()]) -> Response:
    every = _store(request).every_trial(study_id, phase=query.phase)
    wanted = [t for t in every if query.arm in {None, t.arm} and (query.state is None or t.is_among(query.state))]
    what = "trials" if query.phase == "search" else "confirmations"
    headers = {"Content-Disposition": f'attachment; filename="{study_id}-{what}.csv"'}
    return Response(trials_csv(wanted), media_type="text/csv; charset=utf-8", headers=headers)


def _study_again(study_id: str) -> RedirectResponse:
    # 303: the browser reads the page next, and reloading it repeats nothing.
    return RedirectResponse(f"/studies/{study_id}", status_code=303)


def _move(request: Request, caller: Permitted, study_id: StudyId, verb: Literal["pause", "resume", "stop", "cancel"]) -> RedirectResponse:
    _store(request).move(study_id, StudyMove(verb), by=caller)
    return _study_again(study_id)


def _confirm(request: Request, caller: Permitted, study_id: StudyId, form: Form) -> RedirectResponse:
    store, asked = _store(request), extension_of({name: text for name, text in form.items() if name == "seeds"})
    store.extend(study_id, confirming(store.study(study_id).spec, seeds=asked.seeds), by=caller, if_version=version_of(form))
    return _study_again(study_id)


def _extend(request: Request, caller: Permitted, study_id: StudyId, form: Form) -> RedirectResponse:
    _store(request).extend(study_id, extension_of(form), by=caller, if_version=version_of(form))
    return _study_again(study_id)


def _suites(request: Request) -> Response:
    return _page(request, suites_html(_store(request)))


def _suite(request: Request, name: SuiteName) -> Response:
    return _page(request, suite_html(_store(request), _analyses(request), name))


def _compare(request: Request, study: Annotated[tuple[str, ...], Query(max_length=64)] = ()) -> Response:
    return _page(request, comparison_html(_store(request), _analyses(request), study))


def _new(request: Request, study: Annotated[str | None, Query(pattern=r"^[a-z0-9]{1,16}$")] = None, check: int | None = None) -> Response:
    return _page(request, submission_html(_store(request), _analyses(request), study_id=study, check=check))


def _submit(request: Request, caller: Permitted, form: Form) -> Response:
    text = form.get("spec", "")
    spec = submitted_spec(text)
    if isinstance(spec, str):
        return _page(request, spec, status=422)
    try:
        return _study_again(_store(request).submit(spec, by=caller).id)
    except SpecInvalid as error:
        return _page(request, faulty_html(text, error.problems), status=422)


def _trial(request: Request, trial_id: TrialId) -> Response:
    return _page(request, trial_html(_store(request), trial_id))


def _trial_update(request: Request, trial_id: TrialId, seen: Seen = "") -> Response:
    return _update(request, trial_update_html(_store(request), trial_id, seen=seen))
