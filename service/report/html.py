"""A report as one HTML file that needs nothing else.

Its style and its charts are in it, and its own policy forbids all others.
"""

__all__ = ["CONTENT_SECURITY_POLICY", "html"]

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from service.report.sanitize import heading, plain
from service.report.sections import Code, Items, Paragraph, ReportChart, Table, sections
from service.report.study_report import StudyReport
from service.report.svg import budget_svg, confirmed_svg


def _style() -> str:
    """Return the style sheet.

    The dashboard's colours, which its own sheet opens with, then the report's rules.
    """
    colours = (
        files("service.dashboard")
        .joinpath("static/style.css")
        .read_text(encoding="utf-8")
        .partition("\n*,")[0]
    )
    return (
        f"{colours}\n{files('service.report').joinpath('templates/report.css').read_text(encoding='utf-8')}"
    )


_STYLE: Final = _style()
_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")

CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'"
)
"""What the file is shown under: its one style sheet and nothing else, wherever it is opened."""


@cache
def _environment() -> Environment:
    # Jinja types its tables by what it starts with.
    environment: Any = Environment(
        loader=PackageLoader("service.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain
    return environment


def html(report: StudyReport) -> str:
    """Return the report as a page of its own."""
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
            # Ours, and its hash is taken of it as it stands.
            style=Markup(_STYLE),  # noqa: S704  # no text of a study is in it
            sections=parts,
        )
    )
