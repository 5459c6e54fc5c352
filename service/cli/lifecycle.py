"""`tangent pause`, `resume`, `stop` and `cancel`."""

__all__ = ["cancel", "pause", "resume", "stop"]

from service.cli.connection import StudyId, Token, Url, connected
from service.cli.output import AsJson, print_json, print_raw
from studies.states import StudyMove


def _move(study: str, verb: StudyMove, *, as_json: bool, url: str | None, token: str | None) -> None:
    with connected(url, token) as service:
        after = service.client.move(service.study_id(study), verb)
    if as_json:
        print_json(after.model_dump(mode="json"))
        return
    print_raw(
        f"{after.id} is {after.state.value}" + (f": {after.state_reason}" if after.state_reason else "")
    )


def pause(study: StudyId, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Pause a study: start no more trials, and let running ones finish."""
    _move(study, StudyMove.PAUSE, as_json=as_json, url=url, token=token)


def resume(study: StudyId, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """Resume a paused study."""
    _move(study, StudyMove.RESUME, as_json=as_json, url=url, token=token)


def stop(study: StudyId, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """End a study now and keep its results; it counts as completed."""
    _move(study, StudyMove.STOP, as_json=as_json, url=url, token=token)


def cancel(study: StudyId, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """End a study now and mark it as cancelled."""
    _move(study, StudyMove.CANCEL, as_json=as_json, url=url, token=token)
