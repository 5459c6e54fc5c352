"""A report as one self-contained HTML file.

It includes its style sheet and charts, and its Content-Security-Policy forbids everything else.
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
    """Return the style sheet: the dashboard's colours, which start its own sheet, then the report's rules."""
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
"""The policy of the file: it allows only the included style sheet, wherever the file is opened."""


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


def html(report: StudyReport) -> str:
    """Return the report as a self-contained page."""
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
            style=Markup(_STYLE),  # noqa: S704  # it contains no user text
            sections=parts,
        )
    )
