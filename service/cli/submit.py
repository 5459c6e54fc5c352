"""`tangent submit`."""

__all__ = ["ValidateOnly", "Watch", "planned", "submit", "told"]

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from service.cli.connection import AsJson, Connection, Token, Url, connected
from service.cli.output import console, plain_spaces, print_json, print_raw
from studies.formatting import duration, plural

if TYPE_CHECKING:
    from service.schemas import StudyPlan
    from studies.views import StudyView

File = Annotated[
    str, typer.Argument(metavar="FILE", help="The study as JSON or YAML; `-` reads standard input.")
]
Watch = Annotated[
    bool, typer.Option("--watch", "-w", help="Then follow it to its end, as `tangent watch` does.")
]
ValidateOnly = Annotated[
    bool, typer.Option("--validate-only", help="Check it against the service and store nothing.")
]
Name = Annotated[
    str | None, typer.Option(help="A title to use instead of the file's own.", show_default=False)
]


def _study(file: str) -> dict[str, Any]:
    from service.cli.study_files import read_document

    document = read_document(file)
    if not isinstance(document, dict):
        # No study at all: refused here, in the words that the service would use.
        from studies.spec import parse_spec

        parse_spec(document)
    return cast("dict[str, Any]", document)


def planned(opening: str, plan: "StudyPlan", *, as_json: bool) -> None:
    """Show what a study would do."""
    if as_json:
        print_json(plan.model_dump(mode="json"))
        return
    runs = f" and {plural(plan.confirmations, 'confirmation run')}" if plan.confirmations else ""
    print_raw(
        plain_spaces(
            f"{opening}: {plural(len(plan.study.arms), 'arm')}, {plural(plan.trials, 'trial')}{runs}, "
            f"{plural(plan.epochs, 'epoch')}, about {duration(plan.estimate_cpu_s)} of training on one CPU "
            "core"
        )
    )


def told(service: Connection, study: "StudyView", *, as_json: bool, watch: bool) -> None:
    """Show a study that was made or goes on, and follow it where that was asked for."""
    if as_json:
        print_json(study.model_dump(mode="json"))
    else:
        print_raw(study.id)
        console(stderr=True).print(f"{study.name}: {service.page(study.id)}", soft_wrap=True)
    if watch:
        from service.cli.watch import follow

        raise typer.Exit(follow(service, study.id))


def submit(
    file: File,
    *,
    watch: Watch = False,
    validate_only: ValidateOnly = False,
    name: Name = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Submit a study; shows its id and its page on the dashboard."""
    document = _study(file)
    if name is not None:
        document["name"] = name
    with connected(url, token) as service:
        if validate_only:
            planned(f"{file} can be run as it stands", service.client.validate(document), as_json=as_json)
            return
        told(service, service.client.submit(document), as_json=as_json, watch=watch)
