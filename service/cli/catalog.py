"""`tangent optimizers` and `tangent workloads`: what a study may name."""

__all__ = ["optimizers", "workloads"]

import difflib
from collections.abc import Iterable
from typing import Annotated

import typer

from service.cli.connection import AsJson, Token, Url, connected
from service.cli.failures import BAD_INPUT, CommandError
from service.cli.output import console, print_json

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="Show this one in full.", show_default=False)]


def _unknown(kind: str, name: str, known: Iterable[str]) -> CommandError:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"
    return CommandError(f"there is no {kind} {name!r}; {hint}", exit_code=BAD_INPUT)


def optimizers(name: Name = None, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """List the optimizers that can be studied, or show one with all its hyperparameters."""
    from service.cli import tables

    with connected(url, token) as service:
        found = service.client.optimizers()
    if name is None:
        if as_json:
            print_json([card.model_dump(mode="json") for card in found.values()])
        else:
            console().print(tables.optimizers(found.values()))
        return
    card = found.get(name)
    if card is None:
        raise _unknown("optimizer", name, found)
    if as_json:
        print_json(card.model_dump(mode="json"))
        return
    out = console()
    out.print(f"{card.title} ({card.name})", style="bold")
    out.print(card.description)
    out.print(f"Source: {card.reference}")
    out.print(tables.hyperparameters(card.hyperparameters))
    for pair, parts in card.pairs.items():
        out.print(f"{pair}: may be written as one fixed pair for {' and '.join(parts)}")
    for constraint in card.constraints:
        out.print(f"needs {constraint}: {constraint.reason}")
    for containment in card.contains:
        settings = ", ".join(f"{key}={value}" for key, value in containment.at.items())
        out.print(f"is {containment.optimizer} at {settings or 'its defaults'}; {containment.note}".removesuffix("; "))


def workloads(name: Name = None, *, as_json: AsJson = False, url: Url = None, token: Token = None) -> None:
    """List the workloads that optimizers can be studied on, or show one in full."""
    from service.cli import tables

    with connected(url, token) as service:
        found = service.client.workloads()
    if name is None:
        if as_json:
            print_json([card.model_dump(mode="json") for card in found.values()])
        else:
            console().print(tables.workloads(found.values()))
        return
    card = found.get(name)
    if card is None:
        raise _unknown("workload", name, found)
    if as_json:
        print_json(card.model_dump(mode="json"))
        return
    out = console()
    out.print(f"{card.title} ({card.name})", style="bold")
    out.print(card.description)
    out.print(f"Source: {card.source}")
    out.print(f"{tables.metric(card)}; a well-tuned run reaches {card.target:g}")
    out.print(f"{card.parameters} trainable numbers; examples: " + ", ".join(f"{count} {split}" for split, count in card.examples.items()))
    out.print(f"By default {card.epochs} epochs at batch size {card.batch_size}, about {card.epoch_s:g} s each on one CPU thread.")
