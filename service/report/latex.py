"""A study's results as a LaTeX table for a paper.

It needs only the package booktabs, and works with pdfTeX, XeTeX and LuaTeX.
"""

__all__ = ["escaped", "latex"]

import math
import unicodedata
from collections.abc import Sequence
from typing import Final

from service.budget_differences import budgets_to_show, has_budget_verdict
from service.report.rows import ArmRow, arm_rows
from service.report.sanitize import heading, plain
from service.report.study_report import StudyReport
from studies.analysis.views import MetricOfConfiguration
from studies.direction import higher_or_lower
from studies.formatting import count, listed, number
from studies.statistics.paired import mean_interval

_SPECIAL: Final = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedblright{}",
    "\N{NO-BREAK SPACE}": "~",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": r"\textendash{}",
    "\N{EM DASH}": r"\textemdash{}",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{LEFT SINGLE QUOTATION MARK}": r"\textquoteleft{}",
    "\N{RIGHT SINGLE QUOTATION MARK}": r"\textquoteright{}",
    "\N{LEFT DOUBLE QUOTATION MARK}": r"\textquotedblleft{}",
    "\N{RIGHT DOUBLE QUOTATION MARK}": r"\textquotedblright{}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
# Combining marks and their LaTeX commands.
_ACCENTS: Final = {
    "\u0300": r"\`",
    "\u0301": r"\'",
    "\u0302": r"\^",
    "\u0303": r"\~",
    "\u0304": r"\=",
    "\u0306": r"\u",
    "\u0307": r"\.",
    "\u0308": r"\"",
    "\u030a": r"\r",
    "\u030b": r"\H",
    "\u030c": r"\v",
    "\u0327": r"\c",
}
# Pairs of characters that fonts replace by one glyph: a dash, a quotation mark, an inverted sign.
_LIGATURES: Final = frozenset({"--", ",,", "''", "``", "?`", "!`"})
# Accents go on the dotless letters.
_DOTLESS: Final = {"i": r"\i", "j": r"\j"}


def escaped(text: str) -> str:
    """Return text escaped for LaTeX, in ASCII, which every font has; no character acts as a command.

    Accents are kept. Characters that plain LaTeX cannot set, such as Chinese or emoji, become question marks.
    """
    composed = unicodedata.normalize("NFC", plain(text))
    return "".join(
        f"{'{}' if before + character in _LIGATURES else ''}{_escape_character(character)}"
        for before, character in zip(f" {composed}", composed, strict=False)
    )


def _escape_character(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii():
        return character
    letter, *marks = unicodedata.normalize("NFD", character)
    if letter.isascii() and letter.isalpha() and marks and all(mark in _ACCENTS for mark in marks):
        for mark in marks:
            letter = f"{_ACCENTS[mark]}{{{_DOTLESS.get(letter, letter)}}}"
        return letter
    return "?"


def latex(report: StudyReport) -> str:
    """Return a table of the arms: confirmed mean with interval, n, budget, rank and better-than list.

    With a budget verdict, a second table has each arm's expected test value by number of trials.
    """
    study = report.study
    rows = arm_rows(report)
    compared = [metric for metric in report.analysis.metrics if metric.is_compared]
    head = (
        "",
        "Optimizer",
        _column_title("Test", study.workload_card.unit),
        *(_column_title(escaped(metric.name), metric.unit) for metric in compared),
        "$n$",
        "Trials",
        "Epochs",
        _column_title("Search", study.workload_card.unit),
        "Rank",
        "Better than",
    )
    return "\n".join(
        (
            r"% Needs \usepackage{booktabs}.",
            *_table(
                head,
                [_cells(row, report) for row in rows],
                columns=f"rl{'r' * (5 + len(compared))}ll",
                caption=_caption(report),
                label=f"tab:tangent-{study.id}",
            ),
            *_table_by_budget(report, rows),
            "",
        )
    )


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, columns: str, caption: str, label: str
) -> tuple[str, ...]:
    """Return the lines of one table."""
    return (
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{caption}}}",
        f"  \\label{{{label}}}",
        f"  \\begin{{tabular}}{{{columns}}}",
        r"    \toprule",
        f"    {' & '.join(head)} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(row)} \\\\" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    )


def _table_by_budget(report: StudyReport, rows: Sequence[ArmRow]) -> tuple[str, ...]:
    """Return the table of the budget verdict; nothing before the arms have been judged."""
    verdict, card = report.analysis.by_budget, report.study.workload_card
    if verdict is None or verdict.primary is None or not verdict.arms:
        return ()
    named = {row.arm.name: row for row in rows}
    values = {
        (curve.arm, point.trials): point.value for curve in report.analysis.curves for point in curve.points
    } | {(each.arm, verdict.primary): each.value for each in verdict.arms}
    shown = budgets_to_show(verdict.primary, (trials for _, trials in values))
    beaten = {
        each.arm: sorted(
            named[pair.second if pair.first == each.arm else pair.first].mark
            for pair in verdict.pairs
            if (pair.first, pair.word) == (each.arm, "better")
            or (pair.second, pair.word) == (each.arm, "worse")
        )
        for each in verdict.arms
    }
    body = [
        (
            str(named[each.arm].mark),
            escaped(named[each.arm].label),
            *(f"${_number(values.get((each.arm, k)), card.unit)}$" for k in shown),
            str(each.trials) + (f" ({each.diverged} diverged)" if each.diverged else ""),
            number(each.rank) + (f" ({each.low}--{each.high})" if each.low != each.high else ""),
            ", ".join(map(str, beaten[each.arm])) or "--",
        )
        for each in verdict.arms
    ]
    level = (
        "$p$ corrected over the pairs that were open at a look, below the level of that look"
        if verdict.looks
        else "corrected $p < 0.05$"
    )
    caption = (
        f"{_title(report)} Expected {_column_title(f'test {escaped(card.metric)}', card.unit)} "
        f"({higher_or_lower(card.direction)} is better) of the best of $k$ trials by validation, from $n$ "
        f"trials of each optimizer that are paired across optimizers. Rank and Better than hold after "
        f"{verdict.primary} trials of tuning; Better than: numbers of the optimizers that are significantly "
        f"worse (jackknife over pairs, {level}); all others are undecided or better."
    )
    head = ("", "Optimizer", *(f"$k = {k}$" for k in shown), "$n$", "Rank", "Better than")
    return _table(
        head,
        body,
        columns=f"rl{'r' * (1 + len(shown))}ll",
        caption=caption,
        label=f"tab:tangent-{report.study.id}-by-budget",
    )


def _title(report: StudyReport) -> str:
    """Return the study's name as a sentence."""
    name = escaped(heading(report.study))
    return name if name.endswith((".", "!", "?")) else f"{name}."


def _column_title(name: str, unit: str) -> str:
    return (
        name
        if unit in {"", "none"}
        else f"{name} (\\%)"
        if unit == "fraction"
        else f"{name} ({escaped(unit)})"
    )


def _cells(row: ArmRow, report: StudyReport) -> tuple[str, ...]:
    unit = report.study.workload_card.unit
    further = [
        _interval([each for each in metric.confirmed if each.arm == row.arm.name], metric.unit)
        for metric in report.analysis.metrics
        if metric.is_compared
    ]
    diverged = f" ({row.diverged} diverged)" if row.diverged else ""
    is_winner = report.analysis.finding.winner == row.arm.name
    name = escaped(row.label)
    return (
        str(row.mark),
        f"\\textbf{{{name}}}" if is_winner else name,
        _with_half_width(row.mean, row.half_width, unit),
        *further,
        f"{row.n}{diverged}",
        count(row.arm.progress.finished - row.arm.progress.cancelled).replace(",", "\\,"),
        count(row.arm.progress.epochs_done).replace(",", "\\,"),
        "--" if row.search_value is None else f"${_number(row.search_value, unit)}$",
        _rank(row),
        ", ".join(map(str, row.better_than)) or "--",
    )


def _interval(confirmed: Sequence[MetricOfConfiguration], unit: str) -> str:
    """Return an arm's mean of a further metric; over replicates, of each one's best configuration."""
    best = [each for each in confirmed if each.configuration == "best" and each.mean is not None]
    if len(best) != 1:
        found = mean_interval([each.mean for each in best if each.mean is not None])
        known = [None if math.isnan(value) else value for value in (found.mean, found.low, found.high)]
        mean, low, high = known
    else:
        mean, low, high = best[0].mean, best[0].low, best[0].high
    return _with_half_width(mean, None if low is None or high is None else (high - low) / 2, unit)


def _with_half_width(mean: float | None, half_width: float | None, unit: str) -> str:
    if mean is None:
        return "--"
    shown = _number(mean, unit)
    return f"${shown}$" if half_width is None else f"${shown} \\pm {_number(half_width, unit, like=mean)}$"


def _rank(row: ArmRow) -> str:
    ranks = row.possible_ranks
    return "--" if row.rank is None else number(row.rank) + (f" ({ranks[0]}--{ranks[1]})" if ranks else "")


def _number(value: float | None, unit: str, *, like: float | None = None) -> str:
    """Return a number for LaTeX's math mode.

    A fraction is shown in percent with two decimals. Other numbers have as many decimals as `like`, or the
    value itself, has with four significant digits.
    """
    if value is None:
        return "--"
    if unit == "fraction":
        return f"{100 * value:.2f}"
    digits, _, exponent = f"{like if like is not None else value:#.4g}".rstrip(".").partition("e")
    if exponent:
        mantissa, _, power = f"{value:.2e}".partition("e")
        return f"{mantissa} \\times 10^{{{int(power)}}}"
    return f"{value:.{len(digits.partition('.')[2])}f}"


def _compared_caption(names: Sequence[str]) -> str:
    if not names:
        return ""
    listed_names = listed([escaped(name) for name in names], most=len(names))
    return f" The same configurations are shown by test {listed_names}, by which nothing was searched."


def _caption(report: StudyReport) -> str:
    study, card = report.study, report.study.workload_card
    replicates = study.spec.budget.replicates
    of = "replicates of the whole search" if replicates > 1 else "fresh seeds"
    test = "comparison of replicates" if replicates > 1 else "paired comparison"
    direction = higher_or_lower(card.direction)
    beaten = (
        "optimizers whose configurations are"
        if has_budget_verdict(report.analysis)
        else "optimizers that are"
    )
    return (
        f"{_title(report)} Test {escaped(card.metric)} on {escaped(card.name)} ({direction} is "
        f"better): mean over $n$ {of} of each optimizer's best configuration by validation, $\\pm$ half "
        "the width of its 95\\,\\% interval (Student's $t$). Trials, Epochs and Search give the number of "
        "trials and epochs of the search and its best validation value. Rank: position by mean, with the "
        f"range of ranks that the data allow. Better than: numbers of the {beaten} significantly "
        f"worse ({test}, Holm-corrected $p < 0.05$); all others are undecided or better."
        + _compared_caption([metric.name for metric in report.analysis.metrics if metric.is_compared])
        + (" No configuration has been confirmed on fresh seeds." if not report.analysis.confirmed else "")
    )
