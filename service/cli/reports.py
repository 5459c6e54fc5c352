"""`tangent report`, `export` and `replay`: share a study, and run it again from its bundle."""

__all__ = ["DISAGREES", "export", "replay", "report"]

import os
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from service.cli.connection import Connection, StudyId, Token, Url, connected
from service.cli.errors import BAD_INPUT, FAILED, CommandError
from service.cli.output import AsJson, console, print_json, print_raw
from studies.states import CLOSED_STUDY_STATES, StudyState

if TYPE_CHECKING:
    from service.report.bundle_reader import OpenedBundle
    from studies.paired_search import PairedSearch
    from studies.resolve import ResolvedStudy
    from studies.spec import StudySpec

DISAGREES = 3
"""Exit status of `replay` if the new results disagree with the bundle."""

_MAX_NAME_LENGTH = 200
_NAME_SUFFIX = " (replay)"


class Form(StrEnum):
    """The formats of a report."""

    MARKDOWN = "markdown"
    HTML = "html"
    LATEX = "latex"


Format = Annotated[
    Form,
    typer.Option("--format", "-f", help="markdown, html (one file, with charts) or latex (a table)."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to this file.", show_default=False),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]
Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle written by `tangent export`.")]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait/--no-wait",
        help="Follow the new study until it ends and compare the results, or only submit it.",
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="Submit nothing; compare with this study, an earlier replay.",
        show_default=False,
    ),
]


@contextmanager
def _written(path: Path, *, force: bool) -> Generator[IO[bytes]]:
    """Yield a temporary file that is renamed to `path` once it is complete.

    Raises:
        CommandError: the file exists, or cannot be written.
    """
    if path.exists() and not path.is_file():
        # Renaming would replace a device or a pipe by a regular file.
        raise CommandError(
            f"{path} is not a regular file; choose another name with --output", exit_code=BAD_INPUT
        )
    if path.exists() and not force:
        raise CommandError(
            f"{path} already exists; choose another name with --output, or overwrite it with --force",
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
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Write a study's report: its verdict, its methods, and its configurations as Python to paste."""
    with connected(url, token) as service:
        text = service.client.report(service.study_id(study), form="json" if as_json else form.value)
    if output is None:
        print_raw(text.rstrip("\n"))
        return
    with _written(output, force=force) as file:
        file.write(text.encode())
    print_raw(f"{output}")


def export(
    study: StudyId,
    *,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Write a study's bundle: all its data, its report, and everything needed to run it again.

    The default file name is NAME-ID.tangent.zip.
    """
    from service.report.manifest import bundle_name

    with connected(url, token) as service:
        view = service.client.study(service.study_id(study))
        path = output or Path(bundle_name(view.id, view.name))
        with _written(path, force=force) as file:
            service.client.bundle(view.id, file)
    if as_json:
        print_json({"study": view.id, "state": view.state.value, "file": str(path)})
        return
    print_raw(f"{path}")
    if view.state not in CLOSED_STUDY_STATES:
        console(stderr=True).print(
            f"{view.id} is still {view.state.value}; the bundle holds its results so far.", soft_wrap=True
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
    """Run a bundle's study again and check whether the results agree.

    Exits with 0 if they agree, 3 if they disagree, and 1 if the new study did not complete.
    """
    from service.report.bundle_reader import BundleInvalid, open_bundle

    try:
        opened = open_bundle(bundle)
    except BundleInvalid as error:
        raise CommandError(str(error), exit_code=BAD_INPUT) from None
    if opened.manifest.state is not StudyState.COMPLETED:
        state = opened.manifest.state.value
        advice = (
            "submit its spec.json as a new study"
            if opened.manifest.state in CLOSED_STUDY_STATES
            else "export the study again once it has completed"
        )
        raise CommandError(
            f"{bundle} was exported while its study was {state}, and only a completed study can be compared "
            f"with; {advice}",
            exit_code=BAD_INPUT,
        )
    with connected(url, token) as service:
        study_id = _submit(service, opened) if against is None else service.study_id(against)
        if against is None and not as_json:
            console(stderr=True).print(
                f"replaying {opened.manifest.name} as {study_id}: {service.page(study_id)}", soft_wrap=True
            )
        if not wait and against is None:
            _print_submitted(bundle, study_id, as_json=as_json)
            return
        _compare(service, opened, study_id, as_json=as_json)


def _submit(service: Connection, opened: "OpenedBundle") -> str:
    """Submit the bundle's study again and return its id; note on standard error what differs here."""
    name = opened.spec.name[: _MAX_NAME_LENGTH - len(_NAME_SUFFIX)] + _NAME_SUFFIX
    # The replay would count twice in the suite of the original study.
    spec = opened.spec.model_copy(
        update={"name": name, "suite": None, "search": _search_that_ran(opened.spec)}
    )
    for part in _changed_parts(opened.plan, service.client.validate(spec).study):
        console(stderr=True).print(f"note: {part} has changed since the bundle was written", soft_wrap=True)
    return service.client.submit(spec).id


def _search_that_ran(spec: "StudySpec") -> "PairedSearch":
    """Return the search of a study that was stopped among its pairs and extended: with the pairs that ran."""
    from studies.paired_search import default_budget

    search, most = spec.search, spec.budget.trials_per_arm - 1
    if search.paired <= most:
        return search
    return search.model_copy(
        update={"paired": most, "verdict_at": default_budget(most * search.replicates), "until": None}
    )


def _changed_parts(before: "ResolvedStudy", now: "ResolvedStudy") -> list[str]:
    """Return the parts of a plan that differ: the workload's card, and arms by name."""
    parts = [] if before.workload == now.workload else ["the workload's card"]
    # The number of trials grows with pairs that are added until the arms are decided.
    arms = {arm.name: arm.model_copy(update={"trials": 1}) for arm in before.arms}
    return [
        *parts,
        *(
            f"arm {arm.name} (its card, space or defaults)"
            for arm in now.arms
            if arms.get(arm.name) != arm.model_copy(update={"trials": 1})
        ),
    ]


def _print_submitted(bundle: Path, study_id: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"study": study_id, "agreement": None})
        return
    print_raw(study_id)
    console(stderr=True).print(
        f"Once it has completed, compare: tangent replay {bundle} --against {study_id}", soft_wrap=True
    )


def _compare(service: Connection, opened: "OpenedBundle", study_id: str, *, as_json: bool) -> None:
    """Follow the replay until it ends and report whether its results agree.

    Raises:
        CommandError: the replay did not complete.
        typer.Exit: the results disagree.
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
    result = agreement(opened.analysis, service.client.analysis(study_id))
    if as_json:
        print_json({"study": study_id, "agreement": result.model_dump(mode="json")})
    else:
        out = console()
        out.print()
        for n, sentence in enumerate(result.sentences):
            out.print(sentence, style=None if n else "bold", soft_wrap=True)
    if not result.agrees:
        raise typer.Exit(DISAGREES)
