"""The routes of the dashboard: pages, live updates of pages, and the forms that change studies."""

__all__ = ["dashboard_router", "static_files"]

import gzip
import re
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse, StreamingResponse

from service.analysis_cache import AnalysisCache
from service.auth import CurrentActor, authorize, caller_of, is_open
from service.body_parsers import body_parsers
from service.cache_entry import Aged, age_headers
from service.chosen_arms import MAX_COMPARED, ChosenArms
from service.cluster_status import ClusterStatus
from service.compression import accepts_gzip, gzip_parts
from service.dashboard.assets import Assets, assets
from service.dashboard.catalog_pages import optimizer_html, optimizers_html, workload_html, workloads_html
from service.dashboard.comparison_page import comparison_html
from service.dashboard.deletion_page import deletion_html, is_confirmed
from service.dashboard.figures import Against
from service.dashboard.forms import Form, NotesForm, StudyForm, extension_of, version_of
from service.dashboard.help_pages import help_html, manual_html
from service.dashboard.home_page import HomeQuery, home_html, home_update_html
from service.dashboard.layers_page import arm_layers_html
from service.dashboard.notes_page import notes_page_html, rejected_notes_html
from service.dashboard.study_page import StudyPageQuery, study_html, study_update_html
from service.dashboard.submission_page import (
    WrittenStudy,
    checked_study,
    example_study,
    started_study,
    submission_html,
    written_study,
)
from service.dashboard.suite_pages import suite_html, suites_html
from service.dashboard.theme import CONTENT_SECURITY_POLICY
from service.dashboard.trial_page import trial_html, trial_update_html
from service.dashboard.trials_comparison import trials_comparison_html
from service.dashboard.trials_csv import trials_csv_parts
from service.errors import KIND_BY_ERROR
from service.public_address import public_url
from service.strict_json import text_fault
from service.write_threads import WriteRoute, WriteThreads
from studies.actors import Actor, check_may_change, check_role
from studies.errors import (
    CatalogEmpty,
    Forbidden,
    NotesInvalid,
    NotOwner,
    QuotaExceeded,
    SpecInvalid,
    SpecProblem,
    VersionConflict,
)
from studies.extension import more_seeds
from studies.labels import parse_label
from studies.states import StudyMove
from studies.store import Store

StudyId = Annotated[str, Path(pattern=r"^[a-z0-9]{1,16}$")]
ArmName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
SuiteName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
TrialId = Annotated[str, Path(pattern=r"^[a-z0-9.-]{1,96}$")]
DocumentName = Annotated[str, Path(pattern=r"^[\w-]{1,64}$")]
CardName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
SearchText = Annotated[str, Query(max_length=200)]
Seen = Annotated[str, Query(max_length=200)]


def static_files() -> Assets:
    """Return the ASGI application that serves scripts and styles, for mounting at /static."""
    return assets()


def dashboard_router() -> APIRouter:
    """Return the routes of all pages; they read `app.state.store`, and `service.auth` checks permissions."""
    router = APIRouter(
        dependencies=[Depends(authorize)],
        include_in_schema=False,
        default_response_class=HTMLResponse,
        route_class=WriteRoute,
    )
    router.add_api_route("/", _studies)
    router.add_api_route("/live", _studies_update)
    router.add_api_route("/optimizers", _optimizers)
    router.add_api_route("/optimizers/{name}", _optimizer)
    router.add_api_route("/workloads", _workloads)
    router.add_api_route("/workloads/{name}", _workload)
    router.add_api_route("/help", _help)
    router.add_api_route("/help/{name}", _manual)
    router.add_api_route("/suites", _suites)
    router.add_api_route("/suites", _label, methods=["POST"])
    router.add_api_route("/suites/{name}", _suite)
    router.add_api_route("/compare", _compare)
    router.add_api_route("/new", _new)
    router.add_api_route("/new", _submit, methods=["POST"])
    router.add_api_route("/studies/{study_id}", _study)
    router.add_api_route("/studies/{study_id}/live", _study_update)
    router.add_api_route("/studies/{study_id}/trials.csv", _study_csv)
    router.add_api_route("/studies/{study_id}/layers/{arm}", _arm_layers)
    router.add_api_route("/studies/{study_id}/confirm", _confirm, methods=["POST"])
    router.add_api_route("/studies/{study_id}/extend", _extend, methods=["POST"])
    router.add_api_route("/studies/{study_id}/archive", _archive, methods=["POST"])
    router.add_api_route("/studies/{study_id}/unarchive", _unarchive, methods=["POST"])
    router.add_api_route("/studies/{study_id}/delete", _ask_to_delete)
    router.add_api_route("/studies/{study_id}/delete", _delete, methods=["POST"])
    router.add_api_route("/studies/{study_id}/notes", _notes)
    router.add_api_route("/studies/{study_id}/notes", _set_notes, methods=["POST"])
    router.add_api_route("/studies/{study_id}/{verb}", _move, methods=["POST"])
    router.add_api_route("/trials/{trial_id}", _trial)
    router.add_api_route("/trials/{trial_id}/live", _trial_update)
    return router


def _store(request: Request) -> Store:
    return request.app.state.store


def _analyses(request: Request) -> AnalysisCache:
    return request.app.state.analyses


def _page(request: Request, html: str, *, status: int = 200, age_s: float = 0.0) -> Response:
    headers = {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Vary": "Accept-Encoding",
        **age_headers(age_s),
    }
    # Users' text may have lone surrogates, which UTF-8 cannot encode.
    content = html.encode("utf-8", "replace")
    if accepts_gzip(request.headers):
        # Figures and tables shrink to a tenth. A page has no secret that its length could reveal.
        content, headers["Content-Encoding"] = gzip.compress(content, compresslevel=5, mtime=0), "gzip"
    return Response(content, status_code=status, media_type="text/html; charset=utf-8", headers=headers)


def _aged_page(request: Request, page: Aged[str] | None) -> Response:
    # 204 tells htmx to leave the page as it is.
    return Response(status_code=204) if page is None else _page(request, page.value, age_s=page.age_s)


def _studies(request: Request, reader: CurrentActor, query: Annotated[HomeQuery, Query()]) -> Response:
    return _page(request, home_html(request, query, reader=reader))


def _studies_update(
    request: Request, reader: CurrentActor, query: Annotated[HomeQuery, Query()], seen: Seen = ""
) -> Response:
    html = home_update_html(request, query, reader=reader, seen=seen)
    return _aged_page(request, None if html is None else Aged(html, 0.0))


def _help(request: Request, q: SearchText = "") -> Response:
    return _page(request, help_html(q))


def _manual(request: Request, name: DocumentName) -> Response:
    return _page(request, manual_html(name))


def _optimizers(request: Request, q: SearchText = "") -> Response:
    return _page(request, optimizers_html(_store(request), q))


def _optimizer(request: Request, reader: CurrentActor, name: CardName) -> Response:
    return _page(request, optimizer_html(_store(request), name, reader=reader))


def _workloads(request: Request, q: SearchText = "") -> Response:
    return _page(request, workloads_html(_store(request), q))


def _workload(request: Request, reader: CurrentActor, name: CardName) -> Response:
    return _page(request, workload_html(_store(request), name, reader=reader))


async def _study(
    request: Request, reader: CurrentActor, study_id: StudyId, query: Annotated[StudyPageQuery, Query()]
) -> Response:
    store, analyses = _store(request), _analyses(request)
    return await analyses.run_limited(
        lambda: _aged_page(request, study_html(store, analyses, study_id, query, reader=reader)),
        caller=caller_of(request),
    )


async def _study_update(
    request: Request,
    reader: CurrentActor,
    study_id: StudyId,
    query: Annotated[StudyPageQuery, Query()],
    seen: Seen = "",
) -> Response:
    store, analyses = _store(request), _analyses(request)
    return await analyses.run_limited(
        lambda: _aged_page(
            request, study_update_html(store, analyses, study_id, query, reader=reader, seen=seen)
        ),
        caller=caller_of(request),
    )


async def _arm_layers(request: Request, study_id: StudyId, arm: ArmName) -> Response:
    store, analyses = _store(request), _analyses(request)
    return await analyses.run_limited(
        lambda: _page(request, arm_layers_html(store, study_id, arm)), caller=caller_of(request)
    )


async def _study_csv(
    request: Request, study_id: StudyId, query: Annotated[StudyPageQuery, Query()]
) -> Response:
    return await _analyses(request).run_file_job(lambda: _csv(request, study_id, query))


def _csv(request: Request, study_id: str, query: StudyPageQuery) -> Response:
    listed, parts = _store(request).trials_in_parts(
        study_id, arm=query.arm, state=query.state, phase=query.phase
    )
    content = (text.encode("utf-8", "replace") for text in trials_csv_parts(listed, parts))
    what = "trials" if query.phase == "search" else "confirmations"
    headers = {
        "Content-Disposition": f'attachment; filename="{study_id}-{what}.csv"',
        "Vary": "Accept-Encoding",
    }
    if accepts_gzip(request.headers):
        content, headers["Content-Encoding"] = gzip_parts(content), "gzip"
    return StreamingResponse(content, media_type="text/csv; charset=utf-8", headers=headers)


def _redirect_to_study(study_id: str) -> RedirectResponse:
    # 303 makes the browser get the page, so that a reload does not repeat the request.
    return RedirectResponse(f"/studies/{study_id}", status_code=303)


def _move(
    request: Request,
    caller: CurrentActor,
    study_id: StudyId,
    verb: Literal["pause", "resume", "stop", "cancel"],
) -> RedirectResponse:
    _store(request).move(study_id, StudyMove(verb), by=caller)
    return _redirect_to_study(study_id)


def _archive(request: Request, caller: CurrentActor, study_id: StudyId) -> RedirectResponse:
    _store(request).archive(study_id, by=caller)
    return _redirect_to_study(study_id)


def _unarchive(request: Request, caller: CurrentActor, study_id: StudyId) -> RedirectResponse:
    _store(request).archive(study_id, is_archived=False, by=caller)
    return _redirect_to_study(study_id)


def _ask_to_delete(request: Request, caller: CurrentActor, study_id: StudyId) -> Response:
    store = _store(request)
    check_may_change(caller, study_id, store.study(study_id).owner)
    return _page(request, deletion_html(store, study_id))


def _delete(request: Request, caller: CurrentActor, study_id: StudyId, form: Form) -> Response:
    store = _store(request)
    if not is_confirmed(store, study_id, form.get("confirm", "")):
        problem = "This is neither the study's id nor its name, so nothing was deleted."
        return _page(request, deletion_html(store, study_id, problem=problem), status=422)
    store.delete(study_id, by=caller, if_version=version_of(form))
    return RedirectResponse("/", status_code=303)


def _notes(
    request: Request,
    reader: CurrentActor,
    study_id: StudyId,
    version: Annotated[int | None, Query(ge=0, le=999_999_999)] = None,
) -> Response:
    return _page(request, notes_page_html(_store(request), study_id, reader=reader, version=version))


def _check_characters(text: str) -> None:
    # No body of REST may have such characters either.
    if fault := text_fault(text):
        raise NotesInvalid([SpecProblem("/text", f"the text {fault}")])


def _set_notes(request: Request, caller: CurrentActor, study_id: StudyId, form: NotesForm) -> Response:
    store, text, version = _store(request), form.get("text", ""), version_of(form)
    missing = [name for name in ("version", "text") if name not in form]
    if missing:
        raise SpecInvalid(
            [SpecProblem(f"/{name}", "missing; send the form of the study's page") for name in missing]
        )
    try:
        _check_characters(text)
        store.set_notes(study_id, text, by=caller, if_version=version)
    except (Forbidden, NotOwner, NotesInvalid, VersionConflict) as error:
        html = rejected_notes_html(store, study_id, text, error, replaced=version, reader=caller)
        return _page(request, html, status=KIND_BY_ERROR[type(error)].status)
    return RedirectResponse(f"/studies/{study_id}#notes", status_code=303)


def _confirm(request: Request, caller: CurrentActor, study_id: StudyId, form: Form) -> RedirectResponse:
    store = _store(request)
    seeds = extension_of({name: text for name, text in form.items() if name == "seeds"}).seeds
    store.extend(
        study_id,
        more_seeds(store.study(study_id).spec, seeds=seeds),
        by=caller,
        if_version=version_of(form),
    )
    return _redirect_to_study(study_id)


def _extend(request: Request, caller: CurrentActor, study_id: StudyId, form: Form) -> RedirectResponse:
    _store(request).extend(study_id, extension_of(form), by=caller, if_version=version_of(form))
    return _redirect_to_study(study_id)


def _suites(request: Request) -> Response:
    return _page(request, suites_html(_store(request)))


def _label(request: Request, caller: CurrentActor, form: Form) -> RedirectResponse:
    label = parse_label({"suite": form.get("suite", "")})
    _store(request).label(_labelled_ids(form.get("studies", "")), label.suite, by=caller)
    return RedirectResponse(f"/suites/{label.suite}", status_code=303)


def _labelled_ids(text: str) -> tuple[str, ...]:
    """Return the studies that a form names, each once.

    Raises:
        SpecInvalid: there are none or too many, or one is not an id.
    """
    study_ids = tuple(dict.fromkeys(text.split()))
    if not 1 <= len(study_ids) <= MAX_COMPARED:
        fault = f"expected the ids of 1 to {MAX_COMPARED} studies, got {len(study_ids)}"
        raise SpecInvalid([SpecProblem("/studies", fault)])
    for study_id in study_ids:
        if re.fullmatch(r"[a-z0-9]{1,16}", study_id) is None:
            fault = f"expected ids of at most 16 letters a-z and digits, got {study_id[:32]!r}"
            raise SpecInvalid([SpecProblem("/studies", fault)])
    return study_ids


async def _suite(request: Request, name: SuiteName) -> Response:
    store, analyses = _store(request), _analyses(request)
    return await analyses.run_limited(
        lambda: _aged_page(request, suite_html(store, analyses, name)), caller=caller_of(request)
    )


async def _compare(
    request: Request,
    reader: CurrentActor,
    study: Annotated[tuple[str, ...], Query(max_length=64)] = (),
    arm: Annotated[tuple[str, ...], Query(max_length=64)] = (),
    trial: Annotated[tuple[str, ...], Query(max_length=64)] = (),
    against: Against = "trials",
) -> Response:
    store, analyses = _store(request), _analyses(request)
    if trial:
        return await analyses.run_limited(
            lambda: _page(request, trials_comparison_html(store, trial)), caller=caller_of(request)
        )
    # The form sends an empty study for none.
    chosen = ChosenArms.of(tuple(filter(None, study)), arm)
    return await analyses.run_limited(
        lambda: _aged_page(request, comparison_html(store, analyses, chosen, against=against, reader=reader)),
        caller=caller_of(request),
    )


async def _new(
    request: Request,
    caller: CurrentActor,
    study: Annotated[str | None, Query(pattern=r"^[a-z0-9]{1,16}$")] = None,
    check: int | None = None,
    workload: Annotated[str | None, Query(max_length=64)] = None,
    optimizer: Annotated[str | None, Query(max_length=64)] = None,
    written_as: Annotated[Literal["form", "text"], Query(alias="as")] = "form",
) -> Response:
    # Refuse before the user has written the study, not after.
    check_role(caller, "submitter")
    store, analyses = _store(request), _analyses(request)

    def page() -> Response:
        catalog, is_text = store.catalog(), written_as == "text"
        if study is None:
            started = example_study(catalog, workload=workload, optimizer=optimizer, is_text=is_text)
        else:
            started = started_study(store, analyses, study_id=study, check=check, is_text=is_text)
        try:
            checked = checked_study(started.study, catalog)
        except CatalogEmpty as error:
            checked = replace(started.study, notice=f"{error}.")
        return _submission_page(request, checked, is_start=True, of=started.of, why=started.why)

    return await analyses.run_limited(page, caller=caller_of(request))


def _submission_page(request: Request, study: WrittenStudy, *, status: int = 200, **shown: Any) -> Response:
    cluster: ClusterStatus = request.app.state.cluster
    store = _store(request)
    html = submission_html(
        study,
        store.catalog(),
        machines=cluster.read(store),
        url=public_url(request),
        has_token=not is_open(request),
        **shown,
    )
    return _page(request, html, status=status)


async def _written(request: Request, form: StudyForm) -> WrittenStudy:
    """Return the study in a form, which may not be valid."""
    return await body_parsers(request).run(lambda: written_study(form, _store(request).catalog()))


async def _submit(
    request: Request,
    caller: CurrentActor,
    form: StudyForm,
    study: Annotated[WrittenStudy, Depends(_written)],
) -> Response:
    is_change = "do" in form
    if is_change or "check" in form:
        # While somebody types, there is one after each pause. They need not wait for writers.
        return await _analyses(request).run_limited(
            lambda: _answer(request, caller, study, is_submitted=False, is_change=is_change),
            caller=caller_of(request),
        )
    threads: WriteThreads = request.app.state.write_threads
    return await threads.run(lambda: _answer(request, caller, study, is_submitted=True, is_change=False))


def _answer(
    request: Request, caller: Actor, study: WrittenStudy, *, is_submitted: bool, is_change: bool
) -> Response:
    """Submit a study, or only check it, and return the page that follows."""
    store = _store(request)
    try:
        study = checked_study(study, store.catalog())
        if study.spec is not None and is_submitted:
            return _redirect_to_study(store.submit(study.spec, by=caller).id)
    except SpecInvalid as error:
        # The catalogue has just changed.
        study = replace(study, spec=None, problems=error.problems, omitted=error.omitted)
    except (CatalogEmpty, Forbidden, QuotaExceeded) as error:
        # Keep the study, so that the user can change it or submit it again.
        status = KIND_BY_ERROR[type(error)].status
        return _submission_page(request, study, status=status, refused=str(error))
    # A change of the form does what it asks for, whatever the study is like by then.
    return _submission_page(request, study, status=422 if study.problems and not is_change else 200)


def _trial(request: Request, trial_id: TrialId) -> Response:
    return _page(request, trial_html(_store(request), trial_id))


def _trial_update(request: Request, trial_id: TrialId, seen: Seen = "") -> Response:
    html = trial_update_html(_store(request), trial_id, seen=seen)
    return _aged_page(request, None if html is None else Aged(html, 0.0))
