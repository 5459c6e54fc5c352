"""`tangent confirm`, `extend` and `clone`: follow-up work on a study."""

__all__ = ["clone", "confirm", "extend"]

from typing import Annotated, Any, cast

import typer

from service.cli.connection import StudyId, Token, Url, connected
from service.cli.errors import BAD_INPUT, CommandError
from service.cli.output import AsJson
from service.cli.submit import ValidateOnly, Watch, show_plan, show_study, with_tags

Seeds = Annotated[
    int | None,
    typer.Option(
        min=1, help="Total number of fresh seeds; by default five more than now.", show_default=False
    ),
]
SeedsInAll = Annotated[
    int | None,
    typer.Option(
        "--seeds", min=0, help="Total number of fresh seeds for confirmation runs.", show_default=False
    ),
]
Trials = Annotated[
    int | None, typer.Option(min=1, help="Total number of trials per arm.", show_default=False)
]
Replicates = Annotated[
    int | None, typer.Option(min=1, help="Total number of independent searches per arm.", show_default=False)
]
Arms = Annotated[
    list[str] | None,
    typer.Option(
        "--arm",
        metavar="NAME",
        help="Add an arm for this optimizer, with the search space of its card; may be repeated.",
        show_default=False,
    ),
]
ExtensionFile = Annotated[
    str | None,
    typer.Option(
        "--file",
        metavar="FILE",
        help="The extension as JSON or YAML; options take precedence over it.",
        show_default=False,
    ),
]
PatchFile = Annotated[
    str | None,
    typer.Option(
        "--file",
        metavar="FILE",
        help="Changes to the spec, as a JSON merge patch in JSON or YAML.",
        show_default=False,
    ),
]
Name = Annotated[str | None, typer.Option(help="Name of the clone.", show_default=False)]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        help="A tag of the clone, which then has no tags but these and those in the file; may be repeated.",
        show_default=False,
    ),
]


def _object(file: str | None) -> dict[str, Any]:
    """Return the object in a file, or an empty one if no file was given."""
    from service.documents import read_document
    from studies.errors import json_kind

    document: Any = {} if file is None else read_document(file)
    if not isinstance(document, dict):
        raise CommandError(
            f"{'standard input' if file == '-' else file}: expected an object, got {json_kind(document)}",
            exit_code=BAD_INPUT,
        )
    return cast("dict[str, Any]", document)


def confirm(
    study: StudyId,
    *,
    seeds: Seeds = None,
    watch: Watch = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Train each arm's best configuration and its defaults on more fresh seeds.

    More seeds average out the variation over seeds. To average out the variation over searches, add
    replicates with `tangent extend`.
    """
    with connected(url, token) as service:
        after = service.client.confirm(service.study_id(study), seeds=seeds)
        show_study(service, after, as_json=as_json, watch=watch)


def extend(
    study: StudyId,
    *,
    trials: Trials = None,
    replicates: Replicates = None,
    seeds: SeedsInAll = None,
    arm: Arms = None,
    file: ExtensionFile = None,
    watch: Watch = False,
    validate_only: ValidateOnly = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Add arms, trials, replicates or seeds to a completed study; existing results are kept."""
    extension = _object(file)
    given = {"trials_per_arm": trials, "replicates": replicates, "seeds": seeds}
    extension |= {field: total for field, total in given.items() if total is not None}
    if arm:
        listed = extension.get("arms", [])
        # The service rejects anything but a list, with its own message.
        extension["arms"] = [*cast("list[Any]", listed), *arm] if isinstance(listed, list) else listed
    with connected(url, token) as service:
        study_id = service.study_id(study)
        if validate_only:
            show_plan(
                f"{study_id} can be extended",
                service.client.validate_extension(study_id, extension),
                as_json=as_json,
            )
            return
        show_study(service, service.client.extend(study_id, extension), as_json=as_json, watch=watch)


def clone(
    study: StudyId,
    *,
    file: PatchFile = None,
    name: Name = None,
    tag: Tags = None,
    watch: Watch = False,
    validate_only: ValidateOnly = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Submit a copy of a study's spec with changes.

    Prints the clone's id and the URL of its page.
    """
    patch = with_tags(_object(file), tag)
    if name is not None:
        patch["name"] = name
    with connected(url, token) as service:
        study_id = service.study_id(study)
        if validate_only:
            show_plan(
                f"{study_id} can be cloned",
                service.client.validate_clone(study_id, patch),
                as_json=as_json,
            )
            return
        show_study(service, service.client.clone(study_id, patch), as_json=as_json, watch=watch)
