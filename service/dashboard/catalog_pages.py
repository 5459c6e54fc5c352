"""The pages of the catalogue: lists of optimizers and workloads with a search, and a page for each card."""

__all__ = ["optimizer_html", "optimizers_html", "workload_html", "workloads_html"]

from collections.abc import Iterable
from typing import Any, Literal

from service.dashboard.manual_pages import manual_pages, manual_url
from service.dashboard.pack_text import describe_stacking
from service.dashboard.rendering import address, render
from service.dashboard.trial_page import describe_dimension
from studies.actors import Actor, may_submit
from studies.catalog import Catalog, Hyperparameter
from studies.catalog_search import search_cards
from studies.control_characters import strip_controls
from studies.errors import NotFound
from studies.formatting import scalar
from studies.recipe import recipe
from studies.store import Store


def optimizers_html(store: Store, text: str) -> str:
    """Return the list of the optimizers that contain every word of a text."""
    catalog, text = store.catalog(), strip_controls(text)
    found = search_cards(catalog.optimizers.values(), text)
    return _list_html("optimizer", catalog, text=text, cards=found, total=len(catalog.optimizers))


def workloads_html(store: Store, text: str) -> str:
    """Return the list of the workloads that contain every word of a text."""
    catalog, text = store.catalog(), strip_controls(text)
    found = search_cards(catalog.workloads.values(), text)
    return _list_html("workload", catalog, text=text, cards=found, total=len(catalog.workloads))


def _list_html(kind: Literal["optimizer", "workload"], catalog: Catalog, *, text: str, **context: Any) -> str:
    broken = [(package.package, package.entry_point, package.error) for package in catalog.broken_of(kind)]
    return render(
        f"{kind}s.html",
        **context,
        kind=kind,
        text=text,
        broken=broken,
        here=f"/{kind}s",
        json_url=address(f"/v1/{kind}s", q=text),
        more_json=["/v1/broken-packages"] if broken else [],
    )


def optimizer_html(store: Store, name: str, *, reader: Actor) -> str:
    """Return the page of an optimizer's card.

    Raises:
        NotFound: the catalogue has no such optimizer.
    """
    catalog = store.catalog()
    if name not in catalog.optimizers:
        raise NotFound(catalog.describe_unknown("optimizer", name))
    card = catalog.optimizers[name]
    return render(
        "optimizer.html",
        card=card,
        hyperparameters=_rows(card.hyperparameters),
        python=recipe(card, card.defaults).rstrip(),
        published=[
            (workload, result)
            for workload in catalog.workloads.values()
            for result in workload.published
            if result.optimizer == name
        ],
        known=catalog.optimizers,
        tests=_in_manual("optimizers", f"what-is-checked.{name}"),
        may_submit=may_submit(reader),
        here="/optimizers",
        json_url=f"/v1/optimizers/{name}",
    )


def workload_html(store: Store, name: str, *, reader: Actor) -> str:
    """Return the page of a workload's card.

    Raises:
        NotFound: the catalogue has no such workload.
    """
    catalog = store.catalog()
    if name not in catalog.workloads:
        raise NotFound(catalog.describe_unknown("workload", name))
    card, record = catalog.workloads[name], store.workload_record(name)
    return render(
        "workload.html",
        card=card,
        hyperparameters=_rows(card.hyperparameters),
        check=record.checks[0] if record.checks else None,
        widths=[(each.optimizer, describe_stacking(each)) for each in record.stack_widths],
        known=catalog.optimizers,
        may_submit=may_submit(reader),
        here="/workloads",
        json_url=f"/v1/workloads/{name}",
        more_json=[f"/v1/workloads/{name}/record"],
    )


def _in_manual(document: str, anchor: str) -> str | None:
    """Return the address of a passage of the manual, or None if there is none."""
    page = manual_pages().get(document)
    return manual_url(document, anchor) if page is not None and anchor in page.anchors else None


def _rows(hyperparameters: Iterable[Hyperparameter]) -> list[tuple[Hyperparameter, str, str, str]]:
    """Return each hyperparameter with its default, its usual range and the legal values, in words."""
    return [
        (
            each,
            scalar(each.default) if each.follows is None else f"that of {each.follows}",
            describe_dimension(each.search),
            "" if each.bounds is None else str(each.bounds).replace(" ", "\N{NO-BREAK SPACE}"),
        )
        for each in hyperparameters
    ]
