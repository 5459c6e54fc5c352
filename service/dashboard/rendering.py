"""Rendering of templates to HTML, with one Jinja environment that escapes everything."""

__all__ = ["address", "login_html", "problem_html", "render"]

import re
from functools import cache
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from service.dashboard.assets import assets
from service.dashboard.definitions import chart_definition
from service.dashboard.tables import needs_reason
from service.dashboard.theme import arm_style
from service.public_address import root_path, with_root
from service.theme_choice import can_return, chosen_theme, dark_media
from studies.direction import higher_or_lower
from studies.formatting import (
    byte_size,
    change,
    change_interval,
    count,
    duration,
    instant,
    interval,
    metric,
    number,
    p_value,
    percent,
    plural,
    scalar,
    score,
    spread,
)
from studies.training_text import schedule_text, unusual_texts

_BACKTICKS = re.compile(r"`([^`]+)`")
# In escaped text. The last character of an address is not the full stop behind it.
_PAPER_OR_PAGE = re.compile(r"arXiv:(\d{4}\.\d{4,5})|https?://[\w.~%/?=#&;:+-]*[\w/]")
# Defaults of what base.html and study/live.html read on every page.
_DEFAULTS: dict[str, Any] = {
    "json_url": None,
    "more_json": (),
    "has_charts": False,
    "has_parts": False,
    "live_url": None,
    "is_pending": False,
    "here": None,
    "tab_title": None,
    "tab_icon": "icon.svg",
    "oob": "",
}


def address(path: str, **query: object) -> str:
    """Return a path with a query: no empty parameters, and one for each item of a list."""
    given = {name: value for name, value in query.items() if value not in (None, "", [], ())}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def _prose(text: str) -> Markup:
    """Return a sentence as HTML, with text in backticks as code."""
    return Markup(_BACKTICKS.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped just here


def _linked(text: str) -> Markup:
    """Return a text as HTML, with links to the arXiv papers and the pages that it names."""

    def link(found: re.Match[str]) -> str:
        href = f"https://arxiv.org/abs/{found[1]}" if found[1] else found[0]
        return f'<a href="{href}">{found[0]}</a>'

    return Markup(_PAPER_OR_PAGE.sub(link, str(escape(text))))  # noqa: S704  # escaped just here


@cache
def _environment() -> Environment:
    # Any, because Jinja's types allow only its own filters and globals.
    environment: Any = Environment(
        loader=PackageLoader("service.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    written = (
        byte_size,
        change,
        count,
        duration,
        instant,
        interval,
        metric,
        number,
        p_value,
        percent,
        plural,
        scalar,
        schedule_text,
        score,
        change_interval,
        spread,
        unusual_texts,
    )
    environment.filters.update(linked=_linked, prose=_prose, **{write.__name__: write for write in written})
    environment.globals.update(
        address=address,
        arm_style=arm_style,
        asset=assets().url,
        can_return=can_return,
        chart_definition=chart_definition,
        chosen_theme=chosen_theme,
        dark_media=dark_media,
        root_path=root_path,
    )
    environment.filters["higher_or_lower"] = higher_or_lower
    environment.tests["needs_reason"] = needs_reason
    return environment


def render(template: str, **context: Any) -> str:
    """Return a page, or a part of one, as HTML.

    Raises:
        jinja2.UndefinedError: the template reads a variable that is missing.
    """
    return with_root(_environment().get_template(template).render(_DEFAULTS | context))


def problem_html(title: str, *paragraphs: str) -> str:
    """Return the page that explains why a request failed."""
    return render("problem.html", heading=title, paragraphs=paragraphs)


def login_html(to: str, *, problem: str | None = None, is_foreign: bool = False) -> str:
    """Return the page that asks for a token.

    Args:
        to: path to open after the login.
        problem: why the token was rejected.
        is_foreign: whether the request came from a page of another site.
    """
    return render("login.html", to=to, problem=problem, is_foreign=is_foreign)
