"""`tangent confirm`, `extend` and `clone`: how studies grow out of studies."""

__all__ = ["clone", "confirm", "extend"]

from typing import Annotated, Any, cast

import typer

from service.cli.connection import AsJson, StudyId, Token, Url, connected
from service.cli.errors import BAD_INPUT, CommandError
from service.cli.submit import ValidateOnly, Watch, show_plan, show_study

Seeds = Annotated[
    int | None,
    typer.Option(min=1, help="Fresh seeds in all; by default five more than now.", show_default=False),
]
SeedsInAll = Annotated[
    int | None,
    typer.Option("--seeds", min=0, help="Fresh seeds of the confirmation, in all.", show_default=False),
]
Trials = Annotated[int | None, typer.Option(min=1, help="Trials of every arm, in all.", show_default=False)]
Replicates = Annotated[
    int | None, typer.Option(min=1, help="Repetitions of every arm's search, in all.", show_default=False)
]
Arms = Annotated[
    list[str] | None,
    typer.Option(
        "--arm",
        metavar="NAME",
        help="Add this optimizer as its card has it; may be given again.",
        show_default=False,
    ),
]
ExtensionFile = Annotated[
    str | None,
    typer.Option(
        "--file",
        metavar="FILE",
        help="What to add, as JSON or YAML; options go before it.",
        show_default=False,
    ),
]
PatchFile = Annotated[
    str | None,
    typer.Option(
        "--file",
        metavar="FILE",
        help="What is to be different, as JSON or YAML: a merge patch.",
        show_default=False,
    ),
]
Name = Annotated[str | None, typer.Option(help="A title for the clone.", show_default=False)]


def _object(file: str | None) -> dict[str, Any]:
    """Return what a file says, or nothing without one."""
    from service.cli.study_files import read_document

    document: Any = {} if file is None else read_document(file)
    if not isinstance(document, dict):
        raise CommandError(
            f"{'standard input' if file == '-' else file}: expected an object, got {type(document).__name__}",
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

    With them the verdict becomes surer.
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
    """Add arms, trials, replicates or seeds to a completed study; what is there stays as it is."""
    extension = _object(file)
    given = {"trials_per_arm": trials, "replicates": replicates, "seeds": seeds}
    extension |= {field: total for field, total in given.items() if total is not None}
    if arm:
        listed = extension.get("arms", [])
        # Anything else than a list is refused by the service, in its own words.
        extension["arms"] = [*cast("list[Any]", listed), *arm] if isinstance(listed, list) else listed
    with connected(url, token) as service:
        study_id = service.study_id(study)
        if validate_only:
            show_plan(
                f"{study_id} can be extended so",
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
    watch: Watch = False,
    validate_only: ValidateOnly = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Submit a study's spec anew, with what is to be different in it.

    Shows the clone's id and its page on the dashboard.
    """
    patch = _object(file)
    if name is not None:
        patch["name"] = name
    with connected(url, token) as service:
        study_id = service.study_id(study)
        if validate_only:
            show_plan(
                f"{study_id} can be cloned so",
                service.client.validate_clone(study_id, patch),
                as_json=as_json,
            )
            return
        show_study(service, service.client.clone(study_id, patch), as_json=as_json, watch=watch)
