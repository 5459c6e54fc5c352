"""The project's documents (`docs/*.md`) as HTML, with an anchor for everything that defines a term.

`manual` beside this module is a link to `docs`; in an installed package it is a folder with copies. Headings
have the anchors that GitHub gives them. A paragraph or list item that opens with bold text, and a row of a
table without numbers, have the anchor of their heading, a dot and their own name:
`the-budget-verdict.the-band`, `checks.edge-of-space`.
"""

__all__ = ["ManualPage", "Passage", "manual_pages", "manual_url"]

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Final

from markdown_it.token import Token

from service.dashboard.markdown_html import align_cell, markdown_parser

# What is longer is a sentence and not a term.
_LONGEST: Final = 60
_DOCUMENT: Final = re.compile(r"([\w-]+)\.md")


@dataclass(frozen=True)
class Passage:
    """A part of a document that has an anchor of its own.

    Attributes:
        anchor: its id in the page; empty for what comes before the first anchor.
        title: its heading, or its heading and its own name.
        text: its text without markup.
    """

    anchor: str
    title: str
    text: str


@dataclass(frozen=True)
class ManualPage:
    """A document.

    Attributes:
        name: its name in addresses, e.g. 'statistics'.
        title: its title.
        html: its text below the title.
        contents: its headings below the title: (level, anchor, text).
        passages: its text by anchors, to search.
        anchors: every id of `html`.
    """

    name: str
    title: str
    html: str
    contents: tuple[tuple[int, str, str], ...]
    passages: tuple[Passage, ...]
    anchors: frozenset[str]


def manual_url(name: str, anchor: str = "") -> str:
    """Return the address of a document, or of a passage in it."""
    return f"/help/{name}#{anchor}" if anchor else f"/help/{name}"


@cache
def manual_pages() -> dict[str, ManualPage]:
    """Return every document by its name; they do not change while the process runs."""
    folder = files("service.dashboard") / "manual"
    texts = {
        path.name.removesuffix(".md"): path.read_text(encoding="utf-8")
        for path in sorted(folder.iterdir(), key=lambda path: path.name)
        if path.name.endswith(".md")
    }
    return {name: _page(name, text, documents=texts.keys()) for name, text in texts.items()}


@dataclass
class _Anchors:
    """Gives anchors to the tokens of a document, and collects its headings and passages.

    Attributes:
        documents: names of the documents to which links may lead.
        given: every anchor that has been given.
        contents: headings below the title: (level, anchor, text).
        passages: (anchor, title, texts).
        heading: the last heading, as (anchor, text).
        title: the document's title.
        bold: the bold text that opens the last paragraph; it names the table below it.
        labels: how often each name of a table was given.
        is_definitions: whether each row of the last table defines a term: it has no column of numbers.
        is_first_cell: whether the next cell is the first one of such a row.
    """

    documents: Collection[str]
    given: set[str] = field(default_factory=set[str])
    contents: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])
    passages: list[tuple[str, str, list[str]]] = field(default_factory=lambda: [("", "", [])])
    heading: tuple[str, str] = ("", "")
    title: str = ""
    bold: str = ""
    labels: Counter[str] = field(default_factory=Counter[str])
    is_definitions: bool = False
    is_first_cell: bool = False

    def visit(self, tokens: Sequence[Token]) -> None:
        """Change the tokens of a document in place."""
        for i, token in enumerate(tokens):
            match token.type:
                case "table_open":
                    token.meta["label"] = self._label(self.bold or self.heading[1])
                    self.is_definitions = True
                case "th_open" | "td_open":
                    align_cell(token)
                    self.is_definitions = self.is_definitions and not token.attrGet("class")
                case "tr_open":
                    self.is_first_cell = self.is_definitions
                case "table_close":
                    self.passages.append((*self.heading, []))
                case "fence" | "code_block":
                    self.passages[-1][2].append(token.content)
                case "inline":
                    # The paragraphs of a tight list are not rendered, but its items are.
                    before = tokens[i - 2] if tokens[i - 1].hidden else tokens[i - 1]
                    self._visit_text(before, token)
                case _:
                    pass

    def _visit_text(self, before: Token, inline: Token) -> None:
        if before.type == "heading_open":
            self._name_heading(before, inline)
            return
        if before.type == "td_open" and self.is_first_cell:
            self._name_row(before, inline)
            self.is_first_cell = False
        elif before.type in {"paragraph_open", "list_item_open"}:
            self.bold = _opening_bold(inline)
            if self.bold:
                self._begin(self._give(before, self.bold), self.bold)
        self._lead_links(inline)
        self.passages[-1][2].append(_text(inline))

    def _label(self, name: str) -> str:
        """Return a name for a table that no other table of the document has."""
        self.labels[name] += 1
        return name if self.labels[name] == 1 else f"{name} ({self.labels[name]})"

    def _name_heading(self, token: Token, inline: Token) -> None:
        text = _text(inline)
        if token.tag == "h1":
            self.heading, self.title = ("", text), text
            self.passages.append(("", text, []))
            return
        slug = base = _slug(text)
        n = 0
        while slug in self.given:
            n += 1
            slug = f"{base}-{n}"
        self.given.add(slug)
        token.attrSet("id", slug)
        self.heading = (slug, text)
        self.passages.append((slug, text, []))
        self.contents.append((int(token.tag[1]), slug, text))
        opening = Token("link_open", "a", 1, attrs={"href": f"#{slug}", "class": "anchor"})
        inline.children = [opening, *(inline.children or ()), Token("link_close", "a", -1)]

    def _name_row(self, cell: Token, inline: Token) -> None:
        codes = [child for child in inline.children or () if child.type == "code_inline"]
        given = [self._give(code, code.content) for code in codes] or [self._give(cell, _text(inline))]
        self._begin(next((anchor for anchor in given if anchor), ""), _text(inline))

    def _give(self, owner: Token, name: str) -> str:
        """Return the anchor that a token gets; empty if its name is too long, or taken."""
        slug = _slug(name)
        anchor = f"{self.heading[0]}.{slug}".lstrip(".")
        if not slug or len(slug) > _LONGEST or anchor in self.given:
            return ""
        self.given.add(anchor)
        owner.attrSet("id", anchor)
        return anchor

    def _begin(self, anchor: str, name: str) -> None:
        if anchor:
            self.passages.append((anchor, f"{self.heading[1]}: {name}", []))

    def _lead_links(self, inline: Token) -> None:
        """Lead links to pages of this service; a link to another file of the repository becomes its path."""
        children: list[Token] = []
        unserved: str | None = None
        for child in inline.children or ():
            if child.type == "link_open":
                href = str(child.attrGet("href"))
                target = self._target(href)
                if target is None:
                    unserved = href.replace("../", "")
                    continue
                child.attrSet("href", target)
            elif child.type == "link_close" and unserved is not None:
                if children[-1].content != unserved:
                    children += [
                        Token("text", "", 0, content=" ("),
                        Token("code_inline", "code", 0, content=unserved),
                        Token("text", "", 0, content=")"),
                    ]
                unserved = None
                continue
            children.append(child)
        inline.children = children

    def _target(self, href: str) -> str | None:
        if href.startswith(("https://", "http://", "#")):
            return href
        path, _, anchor = href.partition("#")
        document = _DOCUMENT.fullmatch(path)
        if document is None or document[1] not in self.documents:
            return None
        return manual_url(document[1], anchor)


def _page(name: str, text: str, *, documents: Collection[str]) -> ManualPage:
    markdown = markdown_parser()
    tokens = markdown.parse(text)
    anchors = _Anchors(documents)
    anchors.visit(tokens)
    # The template writes the title.
    start = 3 if tokens and tokens[0].tag == "h1" else 0
    html = markdown.renderer.render(tokens[start:], markdown.options, {})
    passages = tuple(_passages(anchors.passages))
    return ManualPage(
        name, anchors.title or name, html, tuple(anchors.contents), passages, frozenset(anchors.given)
    )


def _passages(found: Sequence[tuple[str, str, list[str]]]) -> Iterator[Passage]:
    for anchor, title, texts in found:
        if texts:
            yield Passage(anchor, title, " ".join(" ".join(texts).split()))


def _text(inline: Token) -> str:
    return "".join(" " if child.type == "softbreak" else child.content for child in inline.children or ())


def _opening_bold(inline: Token) -> str:
    """Return the bold text that opens a paragraph, without its full stop; empty if it opens otherwise."""
    children = [child for child in inline.children or () if child.type != "text" or child.content]
    if not children or children[0].type != "strong_open":
        return ""
    end = next(i for i, child in enumerate(children) if child.type == "strong_close")
    return "".join(" " if c.type == "softbreak" else c.content for c in children[1:end]).removesuffix(".")


def _slug(text: str) -> str:
    """Return the anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")
