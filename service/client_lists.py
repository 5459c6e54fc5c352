"""The client's methods for the list of studies."""

__all__ = ["StudyListRequests", "every_item"]

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from service.client_arguments import checked_ids
from service.schemas import StudyPhrase
from service.transport import Transport
from studies.states import StudyState
from studies.study_filter import StudyOrder
from studies.views import Page, StudySummary

_PAGE_SIZE = 500
_PHRASES = 100
_Item = TypeVar("_Item")


def every_item(fetch: Callable[..., Page[_Item]]) -> Iterator[_Item]:
    """Yield the items of all pages; each page is fetched when it is needed.

    Args:
        fetch: returns the page of a `page_token`, by default the first one.
    """
    token: str | None = None
    while True:
        page = fetch(page_token=token)
        yield from page.items
        token = page.next_page_token
        if token is None:
            return


class StudyListRequests:
    """The list of studies, with its filters, its order and the verdicts in a phrase."""

    _transport: Transport

    def studies(
        self,
        *,
        state: StudyState | None = None,
        workload: str | None = None,
        suite: str | None = None,
        owner: str | None = None,
        tag: str | None = None,
        q: str | None = None,
        order: StudyOrder = "newest",
        archived: bool = False,
        page_size: int = 50,
        page_token: str | None = None,
    ) -> Page[StudySummary]:
        """Return a page of studies: either those that are archived or those that are not.

        Args:
            state: only studies in this state.
            workload: only studies on this workload.
            suite: only studies of this suite.
            owner: only studies of this token.
            tag: only studies with this tag.
            q: only studies that have every one of these words in their name, id, workload, suite or owner, or
                as a tag.
            order: newest or oldest first, by name, those that ended last first, or by state.
            archived: the archived studies instead of all others.
            page_size: most studies on the page.
            page_token: the `next_page_token` of the previous page.
        """
        query = {
            "state": state,
            "workload": workload,
            "suite": suite,
            "owner": owner,
            "tag": tag,
            "q": q,
            "order": order,
            "archived": "true" if archived else None,
            "page_size": page_size,
            "page_token": page_token,
        }
        return self._transport.get(Page[StudySummary], "/v1/studies", query)

    def every_study(
        self,
        *,
        state: StudyState | None = None,
        workload: str | None = None,
        suite: str | None = None,
        owner: str | None = None,
        tag: str | None = None,
        q: str | None = None,
        order: StudyOrder = "newest",
        archived: bool = False,
    ) -> Iterator[StudySummary]:
        """Return all studies that `studies` returns on its pages; fetch pages as needed."""
        filters: dict[str, Any] = {
            "state": state,
            "workload": workload,
            "suite": suite,
            "owner": owner,
            "tag": tag,
            "q": q,
            "order": order,
            "archived": archived,
        }
        return every_item(partial(self.studies, **filters, page_size=_PAGE_SIZE))

    def verdict_phrases(self, study_ids: Sequence[str]) -> dict[str, str]:
        """Return the verdicts of studies in a phrase, by id, as the list on the page shows them.

        The phrase of a study without a verdict is empty. A study that the service has not analysed yet is
        absent, and is analysed in the background.
        """
        ids, found = iter(checked_ids(study_ids)), dict[str, str]()
        while some := list(islice(ids, _PHRASES)):
            page = self._transport.get(Page[StudyPhrase], "/v1/verdicts", {"study": some})
            found |= {each.study_id: each.verdict for each in page.items}
        return found
