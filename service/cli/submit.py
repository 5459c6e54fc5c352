"""`tangent submit`."""

__all__ = ["ValidateOnly", "Watch", "show_plan", "show_study", "submit", "with_tags"]

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from service.cli.connection import Connection, Token, Url, connected
from service.cli.output import AsJson, console, plain_spaces, print_json, print_raw

if TYPE_CHECKING:
    from service.schemas import StudyPlan
    from studies.views import StudyView

File = Annotated[
    str, typer.Argument(metavar="FILE", help="The study as JSON or YAML; `-` for standard input.")
]
Watch = Annotated[
    bool, typer.Option("--watch", "-w", help="Follow the study until it ends, like `tangent watch`.")
]
ValidateOnly = Annotated[
    bool, typer.Option("--validate-only", help="Check the study with the service, but do not submit it.")
]
Name = Annotated[
    str | None, typer.Option(help="Name of the study, instead of the one in the file.", show_default=False)
]


Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        help="A tag to find the study by, besides those in the file; may be repeated.",
        show_default=False,
    ),
]


def with_tags(document: dict[str, Any], tags: list[str] | None) -> dict[str, Any]:
    """Return a study or a patch with more tags; the service rejects anything but a list."""
    listed: Any = document.get("tags") or []
    if not tags or not isinstance(listed, list):
        return document
    given = cast("list[Any]", listed)
    return document | {"tags": [*given, *(tag for tag in dict.fromkeys(tags) if tag not in given)]}


def _study(file: str) -> dict[str, Any]:
    from service.documents import read_document

    document = read_document(file)
    if not isinstance(document, dict):
        # Not a study at all: reject it here with the service's own message.
        from studies.spec import parse_spec

        parse_spec(document)
    return cast("dict[str, Any]", document)


def show_plan(opening: str, plan: "StudyPlan", *, as_json: bool) -> None:
    """Show how much work a study would be."""
    if as_json:
        print_json(plan.model_dump(mode="json"))
        return
    from service.plan_text import describe_further, describe_plan

    print_raw(plain_spaces(f"{opening}: {describe_plan(plan)}"))
    for sentence in describe_further(plan):
        print_raw(plain_spaces(sentence))


def show_study(service: Connection, study: "StudyView", *, as_json: bool, watch: bool) -> None:
    """Show a study that was submitted or reopened, and follow it if requested.

    As JSON, a study that is followed is shown once, when it has closed.
    """
    if as_json and not watch:
        print_json(study.model_dump(mode="json"))
    elif not as_json:
        print_raw(study.id)
        console(stderr=True).print(f"{study.name}: {service.page(study.id)}", soft_wrap=True)
    if watch:
        from service.cli.watch import follow

        raise typer.Exit(follow(service, study.id, as_json=as_json))


def submit(
    file: File,
    *,
    watch: Watch = False,
    validate_only: ValidateOnly = False,
    name: Name = None,
    tag: Tags = None,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Submit a study, and show its id and the URL of its page."""
    document = with_tags(_study(file), tag)
    if name is not None:
        document["name"] = name
    with connected(url, token) as service:
        if validate_only:
            show_plan(
                f"{'standard input' if file == '-' else file} is valid",
                service.client.validate(document),
                as_json=as_json,
            )
            return
        show_study(service, service.client.submit(document), as_json=as_json, watch=watch)
