"""A report as Markdown (CommonMark with GitHub's tables), for a paper's appendix or an issue.

User text in it creates no markup, links or mentions.
"""

__all__ = ["escaped", "markdown"]

import re

from service.report.sanitize import heading, plain
from service.report.sections import Block, Code, Items, Paragraph, ReportChart, Section, Table, sections
from service.report.study_report import StudyReport

# A colon matters only within a word: in a URL, or in GitHub's emoji names.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&$]|:(?=\S))")
_WWW = re.compile(r"(?i)\b(www)\.")
_MENTION = re.compile(r"(@|#(?=\d))")
_BACKTICKS = re.compile(r"`+")


def markdown(report: StudyReport) -> str:
    """Return the report as Markdown, without charts; the tables contain their numbers."""
    return (
        "\n\n".join(
            (f"# {escaped(heading(report.study))}", *(_section(section) for section in sections(report)))
        )
        + "\n"
    )


def escaped(text: str) -> str:
    """Return text escaped for Markdown, so that it is shown literally.

    URLs do not become links. GitHub looks for `@name` and `#1` after unescaping, so a zero-width space
    follows the sign to prevent mentions and references.
    """
    return _MENTION.sub("\\1\u200b", _WWW.sub(r"\1\\.", _SPECIAL.sub(r"\\\1", plain(text))))


def _section(section: Section) -> str:
    return "\n\n".join(
        (f"## {section.title}", *(text for block in section.blocks if (text := _block(block))))
    )


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            return escaped(block.text)
        case Items():
            return "\n".join(
                f"{f'{n}.' if block.is_numbered else '-'} {escaped(text)}"
                for n, text in enumerate(block.texts, start=1)
            )
        case Table():
            return f"{escaped(block.caption)}\n\n{_table(block)}"
        case Code():
            # The fence is longer than any run of backticks in the code, so the code cannot close it.
            fence = "`" * (1 + max(2, *map(len, _BACKTICKS.findall(block.python)), 0))
            return f"{escaped(block.title)}\n\n{fence}python\n{block.python.rstrip()}\n{fence}"
        case ReportChart():
            return ""


def _table(table: Table) -> str:
    rules = ["---" if n < table.numeric_from else "---:" for n in range(len(table.headers))]
    rows = ([escaped(cell) for cell in row] for row in (table.headers, *table.rows))
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join((head, f"| {' | '.join(rules)} |", *body))
