"""A report as Markdown (CommonMark with GitHub's tables), for a paper's appendix or an issue.

Nothing of it runs, links or calls anybody.
"""

__all__ = ["escaped", "markdown"]

import re

from service.report.sanitize import heading, plain
from service.report.sections import Block, Code, Items, Paragraph, ReportChart, Section, Table, sections
from service.report.study_report import StudyReport

# A colon matters only within a word: in an address, or in GitHub's names of emoji.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&$]|:(?=\S))")
_WWW = re.compile(r"(?i)\b(www)\.")
_MENTION = re.compile(r"(@|#(?=\d))")
_BACKTICKS = re.compile(r"`+")


def markdown(report: StudyReport) -> str:
    """Return the report as Markdown; its charts are left out, for their numbers stand in the tables."""
    return (
        "\n\n".join(
            (f"# {escaped(heading(report.study))}", *(_section(section) for section in sections(report)))
        )
        + "\n"
    )


def escaped(text: str) -> str:
    """Return text as Markdown shows it, letter by letter.

    Addresses do not become links, and nobody is mentioned: GitHub looks for `@name` and `#1` after everything
    else, so a space of no width follows the sign.
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
            # Longer than any run of backticks in it: nothing can end the block but its own fence.
            fence = "`" * (1 + max(2, *map(len, _BACKTICKS.findall(block.python)), 0))
            return f"{escaped(block.title)}\n\n{fence}python\n{block.python.rstrip()}\n{fence}"
        case ReportChart():
            return ""


def _table(table: Table) -> str:
    rules = ["---" if n < table.numeric_from else "---:" for n in range(len(table.headers))]
    rows = ([escaped(cell) for cell in row] for row in (table.headers, *table.rows))
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join((head, f"| {' | '.join(rules)} |", *body))
