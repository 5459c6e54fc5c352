"""Reads the form of a study from its page, as a browser without scripts does."""

from html.parser import HTMLParser
from typing import Final

__all__ = ["SubmissionForm"]

_VOID: Final = frozenset({"input", "br", "meta", "link"})


class SubmissionForm(HTMLParser):
    """The fields of the form of a study, and the texts of its page.

    Attributes:
        fields: what a browser would send, without buttons.
        attributes: the attributes of each field, by its name.
        texts: the text of each element with an id.
        links: addresses of links.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.attributes: dict[str, dict[str, str | None]] = {}
        self.texts: dict[str, str] = {}
        self.links: list[str] = []
        self._open: list[str] = []
        self._select = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a field, a link or an id."""
        given = dict(attrs)
        name = given.get("name") or ""
        if tag == "a":
            self.links.append(given.get("href") or "")
        if tag in {"input", "textarea"} and name:
            self.attributes[name], self.fields[name] = given, given.get("value") or ""
        if tag == "select":
            self.attributes[name], self._select = given, name
        if tag == "option" and (self._select not in self.fields or "selected" in given):
            self.fields[self._select] = given.get("value") or ""
        if tag not in _VOID:
            self._open.append(given.get("id") or "")

    def handle_endtag(self, tag: str) -> None:
        """Leave an element."""
        if tag not in _VOID and self._open:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        """Add a text to all elements around it."""
        for name in set(self._open) - {""}:
            self.texts[name] = self.texts.get(name, "") + data
