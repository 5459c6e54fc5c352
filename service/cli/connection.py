"""What commands that talk to a service have in common.

Its address, the token, and ids that need not be typed in full.
"""

__all__ = ["AsJson", "Connection", "StudyId", "Token", "Url", "connected"]

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.errors import BAD_INPUT, CommandError

if TYPE_CHECKING:
    from service.client import Client

StudyId = Annotated[str, typer.Argument(metavar="ID", help="Id of a study, a beginning of it, or `last`.")]
Url = Annotated[
    str | None,
    typer.Option(
        help="Address of the service.",
        envvar="TANGENT_URL",
        show_default="http://127.0.0.1:8780",
        metavar="URL",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        help="API token, where the service asks for one.",
        envvar="TANGENT_TOKEN",
        show_default=False,
        metavar="TOKEN",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, as the API gives it.")]

_ID_LENGTH = 8


@dataclass(frozen=True)
class Connection:
    """A service that can be asked.

    Attributes:
        client: talks to it.
        url: its address, without a slash at the end.
    """

    client: "Client"
    url: str

    def page(self, study_id: str) -> str:
        """Return the address of a study's page on the dashboard."""
        return f"{self.url}/studies/{study_id}"

    def study_id(self, given: str) -> str:
        """Return the whole id that `given` stands for.

        Itself, the only study it begins, or the newest for `last`.

        Raises:
            CommandError: there is no study at all, or several begin so.
        """
        if given == "last":
            newest = self.client.studies(page_size=1).items
            if not newest:
                raise CommandError("there are no studies yet; submit one with `tangent submit FILE`")
            return newest[0].id
        if len(given) >= _ID_LENGTH:
            return given
        matching = [study.id for study in self.client.every_study() if study.id.startswith(given)]
        if len(matching) > 1:
            shown = ", ".join(matching[:5]) + (" and others" if len(matching) > 5 else "")
            raise CommandError(
                f"{given!r} begins several studies: {shown}; give more of the id", exit_code=BAD_INPUT
            )
        # With none the service says so, in the same words as for any other id.
        return matching[0] if matching else given


@contextmanager
def connected(url: str | None, token: str | None) -> Generator[Connection]:
    """Yield a connection to the service of the options or the environment; nothing is sent yet.

    Raises:
        SettingsInvalid: the address or the environment makes no sense.
    """
    # Slow to import, and `--help` needs neither.
    from service.client import Client
    from service.settings import ServiceSettings

    settings = ServiceSettings.load(url=url, token=token)
    with Client(settings.url, settings.token.get_secret_value() if settings.token else None) as client:
        yield Connection(client, settings.url)
