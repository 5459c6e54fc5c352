"""`tangent report`, `export` and `replay`: studies to hand on, and to run again from what was handed on."""

__all__ = ["DISAGREES", "export", "replay", "report"]

import os
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from service.cli.connection import AsJson, Connection, StudyId, Token, Url, connected
from service.cli.errors import BAD_INPUT, FAILED, CommandError
from service.cli.output import console, print_json, print_raw
from studies.states import CLOSED_STUDY_STATES, StudyState

if TYPE_CHECKING:
    from service.report.bundle_reader import OpenedBundle
    from studies.resolve import ResolvedStudy

DISAGREES = 3
"""Exit status of `replay`: the study was run again, and does not agree with its bundle."""

_LONGEST_NAME = 200
_REPLAYED = " (replay)"


class Form(StrEnum):
    """The formats of a report."""

    MARKDOWN = "markdown"
    HTML = "html"
    LATEX = "latex"
    JSON = "json"


Format = Annotated[
    Form,
    typer.Option("--format", "-f", help="markdown, html (one file, with charts), latex (a table) or json."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to this file.", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")]
Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle that `tangent export` wrote.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Follow the study to its end and compare; or only submit it.")
]
Against = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="Submit nothing and compare with this study, a replay that was begun earlier.",
        show_default=False,
    ),
]


@contextmanager
def _written(path: Path, *, force: bool) -> Generator[IO[bytes]]:
    """Yield a file under a temporary name, which gets its own name once it is whole.

    Raises:
        CommandError: it is there already, or cannot be written.
    """
    if path.exists() and not path.is_file():
        # A device above all would be gone, and an ordinary file in its place.
        raise CommandError(
            f"{path} is not a regular file; choose another name with --output", exit_code=BAD_INPUT
        )
    if path.exists() and not force:
        raise CommandError(
            f"{path} is there already; choose another name with --output, or overwrite it with --force",
            exit_code=BAD_INPUT,
        )
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            with draft.open("xb") as file:
                yield file
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None


def report(
    study: StudyId,
    *,
    form: Format = Form.MARKDOWN,
    output: Output = None,
    force: Force = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Write a study's report: its verdict, a paragraph on methods, and configurations as Python to paste."""
    with connected(url, token) as service:
        text = service.client.report(service.study_id(study), form=form.value)
    if output is None:
        print_raw(text.rstrip("\n"))
        return
    with _written(output, force=force) as file:
        file.write(text.encode())
    print_raw(f"{output}")


def export(
    study: StudyId, *, output: Output = None, force: Force = False, url: Url = None, token: Token = None
) -> None:
    """Write a study's bundle: all its data, its report, and what is needed to run it again.

    By default NAME-ID.tangent.zip.
    """
    from service.report.manifest import bundle_name

    with connected(url, token) as service:
        view = service.client.study(service.study_id(study))
        path = output or Path(bundle_name(view.id, view.name))
        with _written(path, force=force) as file:
            service.client.bundle(view.id, file)
    print_raw(f"{path}")
    if view.state not in CLOSED_STUDY_STATES:
        console(stderr=True).print(
            f"{view.id} is still {view.state.value}: the bundle holds what is there now.", soft_wrap=True
        )


def replay(
    bundle: Bundle,
    *,
    wait: Wait = True,
    against: Against = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Run a bundle's study again and say whether it agrees.

    Exits with 0 when it does, 3 when not, 1 when the replay did not complete.
    """
    from service.report.bundle_reader import BundleInvalid, open_bundle

    try:
        opened = open_bundle(bundle)
    except BundleInvalid as error:
        raise CommandError(str(error), exit_code=BAD_INPUT) from None
    if opened.manifest.state is not StudyState.COMPLETED:
        was = opened.manifest.state.value
        then = (
            "submit its spec.json anew"
            if opened.manifest.state in CLOSED_STUDY_STATES
            else "export it again once it is"
        )
        raise CommandError(
            f"{bundle} was written while its study was {was}: only a "
            f"completed one can be agreed with; {then}",
            exit_code=BAD_INPUT,
        )
    with connected(url, token) as service:
        study_id = _submitted(service, opened) if against is None else service.study_id(against)
        if against is None and not as_json:
            console(stderr=True).print(
                f"{opened.manifest.name}, again as {study_id}: {service.page(study_id)}", soft_wrap=True
            )
        if not wait and against is None:
            _say_begun(bundle, study_id, as_json=as_json)
            return
        _compare(service, opened, study_id, as_json=as_json)


def _submitted(service: Connection, opened: "OpenedBundle") -> str:
    """Submit the study anew, and say what of its plan is another one here; return its id."""
    name = opened.spec.name[: _LONGEST_NAME - len(_REPLAYED)] + _REPLAYED
    # In its suite the study would be counted twice.
    spec = opened.spec.model_copy(update={"name": name, "suite": None})
    for what in _changed(opened.plan, service.client.validate(spec).study):
        console(stderr=True).print(
            f"note: {what} is not what it was when the bundle was written", soft_wrap=True
        )
    return service.client.submit(spec).id


def _changed(before: "ResolvedStudy", now: "ResolvedStudy") -> list[str]:
    """Return which parts of a plan differ: the workload, or arms by name."""
    parts = [] if before.workload == now.workload else ["the workload's card"]
    arms = {arm.name: arm for arm in before.arms}
    return [
        *parts,
        *(f"arm {arm.name} (its card, space or defaults)" for arm in now.arms if arms.get(arm.name) != arm),
    ]


def _say_begun(bundle: Path, study_id: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"study": study_id, "agreement": None})
        return
    print_raw(study_id)
    console(stderr=True).print(
        f"Compare it once it has ended: tangent replay {bundle} --against {study_id}", soft_wrap=True
    )


def _compare(service: Connection, opened: "OpenedBundle", study_id: str, *, as_json: bool) -> None:
    """Follow the replay to its end and say whether it agrees.

    Raises:
        CommandError: the replay did not complete.
        typer.Exit: it did, and disagrees.
    """
    from service.cli.watch import follow
    from studies.analysis.replay_agreement import agreement

    if as_json:
        for _ in service.client.watch(study_id):
            pass
    else:
        follow(service, study_id)
    study = service.client.study(study_id)
    if study.state is not StudyState.COMPLETED:
        why = f": {study.state_reason}" if study.state_reason else ""
        raise CommandError(
            f"the replay {study_id} is {study.state.value}{why}; there is nothing to compare",
            exit_code=FAILED,
        )
    found = agreement(opened.analysis, service.client.analysis(study_id))
    if as_json:
        print_json({"study": study_id, "agreement": found.model_dump(mode="json")})
    else:
        out = console()
        out.print()
        for n, sentence in enumerate(found.sentences):
            out.print(sentence, style=None if n else "bold", soft_wrap=True)
    if not found.agrees:
        raise typer.Exit(DISAGREES)
