"""A report as one self-contained HTML file.

It includes its style sheet and charts, and its Content-Security-Policy forbids everything else.
"""

__all__ = ["CONTENT_SECURITY_POLICY", "html"]

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any, Final, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from service.report.sanitize import heading, plain
from service.report.sections import Code, Items, Paragraph, ReportChart, Table, sections
from service.report.study_report import StudyReport
from service.report.svg import budget_svg, confirmed_svg
from service.theme_choice import Theme, dark_media


def _style(theme: Theme) -> str:
    """Return the style sheet: the dashboard's colours, which start its own sheet, then the report's rules."""
    static = files("service.dashboard") / "static"
    light = (static / "style.css").read_text(encoding="utf-8").partition("\n*,")[0]
    dark = (static / "dark.css").read_text(encoding="utf-8")
    rules = (files("service.report") / "templates" / "report.css").read_text(encoding="utf-8")
    return f"{light}\n@media {dark_media(theme)} {{\n{dark}}}\n{rules}"


def _source(style: str) -> str:
    """Return the expression of a policy that allows a style sheet."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode('ascii')}'"


_STYLES: Final[dict[Theme, str]] = {theme: _style(theme) for theme in get_args(Theme)}

CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src {' '.join(map(_source, _STYLES.values()))}; base-uri 'none'; "
    "form-action 'none'"
)
"""The policy of the file: it allows only the style sheets of the themes, wherever the file is opened."""


@cache
def _environment() -> Environment:
    # Jinja's types for `filters` cover only the built-in ones.
    environment: Any = Environment(
        loader=PackageLoader("service.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain
    return environment


def html(report: StudyReport, *, theme: Theme = "auto") -> str:
    """Return the report as a self-contained page, which is light in print whatever its theme."""
    charts = {"confirmed": confirmed_svg, "budget": budget_svg}
    kinds = {Paragraph: "paragraph", Items: "items", Table: "table", Code: "code", ReportChart: "chart"}
    parts = [
        (
            section.title,
            [
                (
                    kinds[type(block)],
                    block,
                    charts[block.name](report) if isinstance(block, ReportChart) else None,
                )
                for block in section.blocks
            ],
        )
        for section in sections(report)
    ]
    return (
        _environment()
        .get_template("report.html")
        .render(
            name=heading(report.study),
            policy=CONTENT_SECURITY_POLICY,
            # The policy contains the hash of exactly this text.
            style=Markup(_STYLES[theme]),  # noqa: S704  # it contains no user text
            sections=parts,
        )
    )
