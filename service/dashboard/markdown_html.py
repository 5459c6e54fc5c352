"""Markdown as HTML: the parser of all Markdown on the pages, and texts that users write.

Raw HTML is shown as text. In users' texts, links have `rel="noopener nofollow"`, headings start below those
of the page, and images become links, because a page loads nothing from other sites.
"""

__all__ = ["align_cell", "markdown_parser", "user_html"]

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup

# Below the title of the page, and of the section.
_FIRST_HEADING: Final = 3
_LAST_HEADING: Final = 6
_REL: Final = "noopener nofollow"


@cache
def markdown_parser() -> MarkdownIt:
    """Return the parser with tables, code to copy and no raw HTML; a table needs a `label` in its `meta`."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("fence", _pre)
    markdown.add_render_rule("code_block", _pre)
    markdown.add_render_rule("table_open", _table_open)
    markdown.add_render_rule("table_close", _table_close)
    return markdown


def align_cell(cell: Token) -> None:
    """Give a cell of numbers a class, because the page's policy forbids inline styles."""
    if cell.attrs.pop("style", "") == "text-align:right":
        cell.attrSet("class", "n")
    if cell.type == "th_open":
        cell.attrSet("scope", "col")


@lru_cache(maxsize=64)
def user_html(text: str, *, name: str) -> Markup:
    """Return a user's text as HTML.

    Args:
        text: the text, in Markdown.
        name: what it is, for the labels of its tables: `notes`.
    """
    markdown = markdown_parser()
    tokens = markdown.parse(text)
    tables = 0
    top = min((_level(token) for token in tokens if token.type == "heading_open"), default=1)
    level = _FIRST_HEADING - 1
    for token in tokens:
        match token.type:
            case "heading_open":
                # A text may skip levels, a page may not.
                level = min(_level(token) - top + _FIRST_HEADING, level + 1, _LAST_HEADING)
                token.tag = f"h{level}"
            case "heading_close":
                token.tag = f"h{level}"
            case "table_open":
                tables += 1
                token.meta["label"] = name if tables == 1 else f"{name} ({tables})"
            case "th_open" | "td_open":
                align_cell(token)
            case "inline":
                token.children = _safe(token.children or ())
            case _:
                pass
    # Raw HTML was escaped, and the parser admits no address of a script.
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))  # noqa: S704


def _level(heading: Token) -> int:
    return int(heading.tag.removeprefix("h"))


def _safe(children: Sequence[Token]) -> list[Token]:
    """Return the tokens of a paragraph with restrained links, and with links in place of images."""
    found: list[Token] = []
    is_in_link = False
    for child in children:
        if child.type == "image":
            found += _link_to_image(child, is_in_link=is_in_link)
            continue
        if child.type in {"link_open", "link_close"}:
            is_in_link = child.type == "link_open"
            if is_in_link:
                child.attrSet("rel", _REL)
        found.append(child)
    return found


def _link_to_image(image: Token, *, is_in_link: bool) -> list[Token]:
    address = str(image.attrGet("src") or "")
    text = Token("text", "", 0, content=image.content or address)
    # A link cannot contain another.
    if is_in_link or not address:
        return [text]
    opening = Token("link_open", "a", 1, attrs={"href": address, "rel": _REL})
    return [opening, text, Token("link_close", "a", -1)]


def _pre(_: RendererHTML, tokens: Sequence[Token], i: int, *__: Any) -> str:
    return f'<pre class="copyable" tabindex="0"><code>{escapeHtml(tokens[i].content)}</code></pre>\n'


def _table_open(_: RendererHTML, tokens: Sequence[Token], i: int, *__: Any) -> str:
    label = escapeHtml(str(tokens[i].meta["label"]))
    return f'<div class="scroll" role="region" aria-label="Table: {label}" tabindex="0">\n<table>\n'


def _table_close(*_: Any) -> str:
    return "</table>\n</div>\n"
