"""`tangent optimizers` and `tangent workloads`: the catalogue."""

__all__ = ["optimizers", "workloads"]

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from service.cli.connection import Connection, Token, Url, connected
from service.cli.errors import BAD_INPUT, CommandError
from service.cli.output import AsJson, console, print_json
from studies.formatting import count, duration, metric, plural, scalar

if TYPE_CHECKING:
    from service.cli.fitted_table import FittedTable
    from studies.catalog import BrokenPackage, OptimizerCard, WorkloadCard

C = TypeVar("C", "OptimizerCard", "WorkloadCard")
Name = Annotated[
    str | None, typer.Argument(metavar="NAME", help="Show only this one, in full.", show_default=False)
]
_EMPTY = "The catalogue is empty because no dispatcher has started yet; start one with `tangent up`."


def _selected_card(
    cards: Mapping[str, C],
    name: str | None,
    *,
    broken: "Sequence[BrokenPackage]",
    kind: str,
    as_json: bool,
    table: "Callable[[Iterable[C]], FittedTable]",
) -> C | None:
    """Return the card to show in full; None after listing all cards or printing JSON.

    Raises:
        CommandError: no card has this name.
    """
    if name is None:
        if as_json:
            print_json([card.model_dump(mode="json") for card in cards.values()])
        else:
            console().print(table(cards.values()) if cards else _EMPTY)
        out = console(stderr=as_json)
        for package in broken:
            out.print(f"warning: {package}", soft_wrap=True)
        return None
    card = cards.get(name)
    if card is None:
        from studies.catalog import suggest_name

        hint = "; ".join([suggest_name(name, cards), *map(str, broken)])
        raise CommandError(f"there is no {kind} {name!r}; {hint}", exit_code=BAD_INPUT)
    if as_json:
        print_json(card.model_dump(mode="json"))
        return None
    named = card.name if card.title == card.name else f"{card.title} ({card.name})"
    console().print(named, style="bold")
    if card.description:
        console().print(card.description)
    return card


def _broken_packages(service: Connection, kind: str) -> "list[BrokenPackage]":
    return [package for package in service.client.broken_packages() if package.kind == kind]


def optimizers(name: Name = None, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """List the optimizers and the packages that could not be loaded, or show one optimizer in full."""
    from service.cli import tables

    with connected(url, token) as service:
        card = _selected_card(
            service.client.optimizers(),
            name,
            broken=_broken_packages(service, "optimizer"),
            kind="optimizer",
            as_json=as_json,
            table=tables.optimizers,
        )
    if card is None:
        return
    out = console()
    out.print(f"Source: {card.reference}")
    out.print(tables.hyperparameters(card.hyperparameters))
    for pair, parts in card.pairs.items():
        out.print(f"{pair}: a fixed pair that sets {' and '.join(parts)}")
    for constraint in card.constraints:
        out.print(f"requires {constraint}: {constraint.reason}")
    for containment in card.contains:
        at, requires = (
            ", ".join(f"{key} = {scalar(value)}" for key, value in settings.items())
            for settings in (containment.at, containment.requires)
        )
        same = f"is the same algorithm as {containment.optimizer}" + (f" with {requires}" if requires else "")
        note = f"; {containment.note}" if containment.note else ""
        out.print(f"at {at} it {same}{note}" if at else f"{same}{note}")


def workloads(name: Name = None, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """List the workloads and the packages that could not be loaded, or show one workload in full."""
    from service.cli import tables

    with connected(url, token) as service:
        card = _selected_card(
            service.client.workloads(),
            name,
            broken=_broken_packages(service, "workload"),
            kind="workload",
            as_json=as_json,
            table=tables.workloads,
        )
    if card is None:
        return
    out = console()
    if card.missing:
        out.print(f"Cannot be trained here: {card.missing}.", style="yellow", soft_wrap=True)
    if card.source:
        out.print(f"Source: {card.source}")
    target = "" if card.target is None else f"; a well-tuned run reaches {metric(card.target, card.unit)}"
    out.print(f"{tables.describe_metric(card)}{target}")
    if card.metrics:
        named = "; ".join(tables.describe_metric(card.by_metric(each.name)) for each in card.metrics)
        out.print(f"further metrics: {named}")
    sizes = [] if card.parameters is None else [plural(card.parameters, "trainable parameter")]
    if card.examples:
        splits = (f"{count(examples)} {split}" for split, examples in card.examples.items())
        sizes.append(f"examples: {', '.join(splits)}")
    if sizes:
        out.print("; ".join(sizes))
    time = "" if card.epoch_s is None else f", about {duration(card.epoch_s)} each on one CPU core"
    out.print(f"Default: {plural(card.epochs, 'epoch')} with batch size {card.batch_size}{time}.")
    if card.hyperparameters:
        out.print(tables.hyperparameters(card.hyperparameters))
    if card.groups:
        out.print(f"Parameter groups: {', '.join(card.groups)}")
    if card.published:
        out.print(tables.published(card))
