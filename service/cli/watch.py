"""`tangent watch`: follow a study's progress, then show its arms."""

__all__ = ["follow", "watch"]

from typing import TYPE_CHECKING

import typer

from service.cli.connection import Connection, StudyId, Token, Url, connected
from service.cli.errors import FAILED
from service.cli.output import AsJson, console, print_json
from service.cli.studies import study_document
from studies.states import CLOSED_STUDY_STATES, StudyState

if TYPE_CHECKING:
    from studies.views import StudyView


def follow(service: Connection, study_id: str, *, as_json: bool = False) -> int:
    """Show a study's progress until it closes, then its arms; return 0 if it completed, else 1.

    As JSON, show only the closed study with its arms.
    """
    study = service.client.study(study_id)
    service.warn_if_waiting(study)
    if as_json:
        for _ in service.client.watch(study_id):
            pass
        study = service.client.study(study_id)
        print_json(study_document(study, service.client.arms(study_id)))
        return _exit_code(study)
    from service.cli import tables
    from service.cli.progress import reporter
    from service.cli.trials import show_last_error

    if study.state not in CLOSED_STUDY_STATES:
        with reporter(study, service.client.arms(study_id)) as report:
            for event in service.client.watch(study_id):
                report(event)
        study = service.client.study(study_id)
    out = console()
    out.print(
        f"{study.id} is {study.state.value}" + (f": {study.state_reason}" if study.state_reason else ""),
        style="bold",
    )
    out.print(tables.arms(service.client.arms(study_id), study.workload_card))
    if study.state is StudyState.FAILED:
        show_last_error(service, study_id)
    if study.progress.confirmations_finished:
        out.print(
            f"{service.client.analysis(study_id).finding.sentence} (`tangent verdict {study_id}`)",
            soft_wrap=True,
        )
    return _exit_code(study)


def _exit_code(study: "StudyView") -> int:
    return 0 if study.state is StudyState.COMPLETED else FAILED


def watch(study: StudyId, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Follow a study until it ends; exit with 0 if it completed, 1 if it failed or was cancelled."""
    with connected(url, token) as service:
        raise typer.Exit(follow(service, service.study_id(study), as_json=as_json))
