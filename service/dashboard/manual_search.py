"""Search in the manual: SQLite's full-text index (FTS5) over its passages, in memory.

It is not the project's database, which only the store opens.
"""

__all__ = ["FoundPassage", "search_manual"]

import re
import sqlite3
import threading
from dataclasses import dataclass
from functools import cache
from typing import Final

from markupsafe import Markup, escape

from service.dashboard.manual_pages import manual_pages, manual_url

_WORDS: Final = 12
_FOUND: Final = 30
# They surround a word that was found, in a text that has no control characters.
_BEGIN, _END = "\x02", "\x03"


@dataclass(frozen=True)
class FoundPassage:
    """A passage that matches a search.

    Attributes:
        url: its address.
        page: title of its document.
        title: its own title.
        excerpt: its text around the words that were found, which are marked.
    """

    url: str
    page: str
    title: str
    excerpt: Markup


def search_manual(text: str) -> tuple[FoundPassage, ...]:
    """Return the passages with all words of a text, or with any of them if none has all; best first.

    A word matches every word that begins with it, and other forms of it.
    """
    words = re.findall(r"\w+", text)[:_WORDS]
    # As quoted strings, in which FTS5 has no operators.
    quoted = [f'"{word}"*' for word in words]
    rows: list[tuple[str, str, str, str]] = []
    if quoted:
        index = _index()
        rows = index.find(" AND ".join(quoted)) or index.find(" OR ".join(quoted))
    found: list[FoundPassage] = []
    for name, anchor, title, excerpt in rows:
        page = manual_pages()[name].title
        found.append(FoundPassage(manual_url(name, anchor), page, title, _marked(excerpt)))
    return tuple(found)


class _Index:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.execute(
            "CREATE VIRTUAL TABLE passage USING fts5"
            "(name UNINDEXED, anchor UNINDEXED, title, text, tokenize = 'porter unicode61')"
        )
        self._connection.executemany(
            "INSERT INTO passage VALUES (?, ?, ?, ?)",
            [
                (page.name, passage.anchor, passage.title, passage.text)
                for page in manual_pages().values()
                for passage in page.passages
            ],
        )

    def find(self, expression: str) -> list[tuple[str, str, str, str]]:
        """Return (document, anchor, title, excerpt) of the best matches; a title counts eight times."""
        with self._lock:
            return self._connection.execute(
                "SELECT name, anchor, title, snippet(passage, 3, ?, ?, '…', 32) FROM passage"
                " WHERE passage MATCH ? ORDER BY bm25(passage, 0, 0, 8, 1) LIMIT ?",
                (_BEGIN, _END, expression, _FOUND),
            ).fetchall()


@cache
def _index() -> _Index:
    return _Index()


def _marked(excerpt: str) -> Markup:
    html = str(escape(excerpt)).replace(_BEGIN, "<mark>").replace(_END, "</mark>")
    return Markup(html)  # noqa: S704  # escaped just here
