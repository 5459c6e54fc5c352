"""The pages of help: the manual's contents, what a search found, and each document of the manual."""

__all__ = ["help_html", "manual_html"]

from typing import Final

from service.dashboard.manual_pages import ManualPage, manual_pages
from service.dashboard.manual_search import search_manual
from service.dashboard.rendering import render
from studies.control_characters import strip_controls
from studies.errors import NotFound
from studies.formatting import listed

_GROUPS: Final[dict[str, dict[str, str]]] = {
    "Compare optimizers": {
        "study": "Every field of a study, what can be searched, samplers, pruners and lost trials.",
        "statistics": "What every figure, word and check of a verdict means, and how often it is wrong.",
        "benchmarks": "Built-in workloads: what each needs, and what was run.",
        "report": "Reports for papers, bundles of everything measured, and running a study again.",
        "optimizers": "What each optimizer is, and how it was checked.",
        "cli": "Every command of tangent with its options.",
    },
    "Add your own": {
        "workloads": "Training jobs in a package of your own: data, model, loss and metrics.",
        "own-optimizers": "Optimizers in a package of your own.",
    },
    "Run the service": {
        "cluster": "Several machines, databases, proxies, backup and upgrade.",
        "users": "Tokens, roles, owners, quotas and the audit log.",
        "watching": "Metrics, logs, traces and readiness.",
        "webhooks": "Signed requests when a study changes state.",
        "security": "What is protected against whom, and what remains to be done.",
        "reliability": "What is guaranteed when processes, machines and databases fail.",
    },
    "How it works": {
        "architecture": "The parts, the terms, and the path of a study through the code.",
        "performance": "What was measured, and how to measure it again.",
    },
}


def help_html(text: str) -> str:
    """Return the contents of the manual, or what a search for a text found in it."""
    text = strip_controls(text)
    return render(
        "help.html", groups=_grouped(), text=text, found=search_manual(text) if text else (), here="/help"
    )


def _grouped() -> list[tuple[str, list[tuple[ManualPage, str]]]]:
    pages = manual_pages()
    groups = [
        (title, [(pages[name], about) for name, about in named.items() if name in pages])
        for title, named in _GROUPS.items()
    ]
    described = {name for named in _GROUPS.values() for name in named}
    rest = [(page, "") for name, page in pages.items() if name not in described]
    return [*groups, ("More", rest)] if rest else groups


def manual_html(name: str) -> str:
    """Return the page of a document.

    Raises:
        NotFound: the manual has no such document.
    """
    pages = manual_pages()
    if name not in pages:
        raise NotFound(f"the manual has no document {name!r}; it has {listed(list(pages))}")
    return render("manual.html", page=pages[name], here="/help")
