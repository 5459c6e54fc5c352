"""Search in the catalogue."""

__all__ = ["search_cards"]

from collections.abc import Iterable, Iterator
from typing import TypeVar

from studies.catalog import Hyperparameter, OptimizerCard, WorkloadCard

_Card = TypeVar("_Card", OptimizerCard, WorkloadCard)


def search_cards(cards: Iterable[_Card], text: str) -> tuple[_Card, ...]:
    """Return the cards that contain every word of a text; those with all words in name and title come first.

    Case does not matter, and a word may be a part of a longer one. Without any word, all cards are returned.
    """
    words = text.casefold().split()
    found = [card for card in cards if _has_all(words, "\n".join(_texts(card)))]
    return tuple(sorted(found, key=lambda card: not _has_all(words, f"{card.name}\n{card.title}")))


def _has_all(words: Iterable[str], text: str) -> bool:
    folded = text.casefold()
    return all(word in folded for word in words)


def _texts(card: OptimizerCard | WorkloadCard) -> Iterator[str]:
    yield from (card.name, card.title, card.description, *_of_hyperparameters(card.hyperparameters))
    if card.package is not None:
        yield card.package.name
    if isinstance(card, OptimizerCard):
        yield from (card.reference, card.needs, *card.findings)
    else:
        yield from (card.source, card.kind, card.missing, *card.metric_names, *card.groups)
        yield from (result.optimizer for result in card.published)


def _of_hyperparameters(hyperparameters: Iterable[Hyperparameter]) -> Iterator[str]:
    for each in hyperparameters:
        yield from (each.name, each.description, each.source)
