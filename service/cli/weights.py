"""`tangent weights`: download the weights that a study keeps."""

__all__ = ["weights"]

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connection import StudyId, Token, Url, connected
from service.cli.errors import BAD_INPUT, CommandError
from service.cli.output import AsJson, console, print_json, print_raw
from studies.states import CLOSED_STUDY_STATES

if TYPE_CHECKING:
    from service.client import Client
    from studies.artifacts import ArtifactView
    from studies.views import StudyView


def weights(
    study: StudyId,
    arm: Annotated[
        str | None,
        typer.Argument(
            metavar="ARM", help="Name of an arm; not needed if only one arm has weights.", show_default=False
        ),
    ] = None,
    *,
    defaults: Annotated[
        bool, typer.Option("--defaults", help="The weights of the arm's defaults, not of its best.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to this file; by default STUDY-ARM-best.pt.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Download the final weights of an arm's best configuration, which a study with `keep` keeps.

    An interrupted download continues when the command is run again. The file's checksum is verified. Read it
    with torch.load(FILE, weights_only=True); its `model` is a state_dict.
    """
    with connected(url, token) as service:
        study_id = service.study_id(study)
        view = service.client.study(study_id)
        kept = [each for each in service.client.artifacts(study_id) if each.kind == "weights"]
        chosen = _chosen(view, kept, arm=arm, weights_of="defaults" if defaults else "best")
        path = output or Path(f"{study_id}-{chosen.name}")
        _check_place(path, force=force)
        try:
            _download(service.client, chosen, path)
        except OSError as error:
            raise CommandError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None
    if as_json:
        print_json({**chosen.model_dump(mode="json"), "file": str(path)})
        return
    print_raw(f"{path}")
    print_raw(f"sha256 {chosen.sha256}")


def _download(client: "Client", artifact: "ArtifactView", path: Path) -> None:
    errors = console(stderr=True)
    if not errors.is_terminal:
        client.download(artifact, path)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task("", total=artifact.size)
        client.download(artifact, path, on_progress=lambda size: progress.update(task, completed=size))


def _check_place(path: Path, *, force: bool) -> None:
    if path.exists() and not path.is_file():
        raise CommandError(
            f"{path} is not a regular file; choose another name with --output", exit_code=BAD_INPUT
        )
    if path.exists() and not force:
        raise CommandError(
            f"{path} already exists; choose another name with --output, or overwrite it with --force",
            exit_code=BAD_INPUT,
        )


def _chosen(
    study: "StudyView", kept: Sequence["ArtifactView"], *, arm: str | None, weights_of: str
) -> "ArtifactView":
    """Return the file of weights to download.

    Raises:
        CommandError: the study keeps none, or several arms have some and none is named.
    """
    if arm is not None and arm not in study.arms:
        raise CommandError(
            f"study {study.id} has no arm {arm!r}; expected one of {', '.join(study.arms)}",
            exit_code=BAD_INPUT,
        )
    found = [each for each in kept if each.weights_of == weights_of and arm in {None, each.arm}]
    if len(found) > 1:
        arms = ", ".join(each.arm for each in found)
        raise CommandError(f"expected the name of an arm: {arms}", exit_code=BAD_INPUT)
    if found and found[0].is_kept:
        return found[0]
    raise CommandError(_why_none(study, found, weights_of), exit_code=BAD_INPUT)


def _why_none(study: "StudyView", found: Sequence["ArtifactView"], weights_of: str) -> str:
    if found:
        return f"the weights of {found[0].trial_id} were not kept: {found[0].reason}"
    keep = study.spec.keep.weights
    if keep == "none" or (weights_of == "defaults" and keep == "best"):
        wanted = "best" if weights_of == "best" else "best-and-defaults"
        return f"study {study.id} keeps no such weights; submit it again with `keep: {{weights: {wanted}}}`"
    if study.state not in CLOSED_STUDY_STATES:
        return f"study {study.id} is still {study.state.value}; its weights are kept by its confirmation runs"
    return (
        f"study {study.id} has no such weights: no confirmation run of that configuration completed, or they "
        "have been deleted since"
    )
