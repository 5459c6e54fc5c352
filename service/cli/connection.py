"""Options of commands that talk to a service: its URL, the token, and abbreviated study ids."""

__all__ = ["Connection", "StudyId", "Token", "Url", "connected"]

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.errors import BAD_INPUT, CommandError
from studies.standard_error import write_line
from studies.states import StudyState

if TYPE_CHECKING:
    from service.client import Client
    from studies.views import StudyView

StudyId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a study, a unique prefix of it, or `last`.")
]
Url = Annotated[
    str | None,
    typer.Option(
        help="URL of the service.",
        envvar="TANGENT_URL",
        show_default="http://127.0.0.1:8780",
        metavar="URL",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        help="API token, if the service requires one.",
        envvar="TANGENT_TOKEN",
        show_default=False,
        metavar="TOKEN",
    ),
]

_ID_LENGTH = 8


@dataclass(frozen=True)
class Connection:
    """A connection to a service.

    Attributes:
        client: the client.
        url: the service's URL, without a trailing slash.
    """

    client: "Client"
    url: str

    def page(self, study_id: str) -> str:
        """Return the URL of a study's page on the dashboard."""
        return f"{self.url}/studies/{study_id}"

    def warn_if_waiting(self, study: "StudyView") -> None:
        """Warn on standard error if no dispatcher can run a study that waits for one, with the reason."""
        from service.errors import NOT_READY
        from service.transport import ProblemError

        progress = study.progress
        is_waiting = study.state in {StudyState.QUEUED, StudyState.RUNNING}
        if not is_waiting or progress.running or progress.confirmations_running:
            return
        try:
            self.client.readiness()
        except ProblemError as error:
            if error.slug != NOT_READY.slug:
                raise
            for what in error.problem.missing or ():
                write_line(f"warning: study {study.id} waits for {what}")

    def study_id(self, given: str) -> str:
        """Return the full id for a prefix, or of the newest study for `last`.

        Raises:
            CommandError: there are no studies, or several ids start with the prefix.
        """
        if given == "last":
            newest = self.client.studies(page_size=1).items
            if not newest:
                raise CommandError("there are no studies yet; submit one with `tangent submit FILE`")
            return newest[0].id
        if len(given) >= _ID_LENGTH:
            return given
        every = chain(self.client.every_study(), self.client.every_study(archived=True))
        matching = [study.id for study in every if study.id.startswith(given)]
        if len(matching) > 1:
            shown = ", ".join(matching[:5]) + (" and others" if len(matching) > 5 else "")
            raise CommandError(
                f"several study ids start with {given!r}: {shown}; type more of the id", exit_code=BAD_INPUT
            )
        # An unknown id goes to the service, so that the error is the same for all ids.
        return matching[0] if matching else given


@contextmanager
def connected(url: str | None, token: str | None) -> Generator[Connection]:
    """Yield a connection to the service that the options or the environment name; nothing is sent yet.

    Raises:
        SettingsInvalid: the URL or an environment variable is not valid.
    """
    # Slow to import, and not needed for `--help`.
    from service.client import Client
    from service.settings import ServiceSettings

    settings = ServiceSettings.load(url=url, token=token)
    with Client(settings.url, settings.token.get_secret_value() if settings.token else None) as client:
        yield Connection(client, settings.url)
