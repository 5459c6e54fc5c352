"""A language model on a stream of paragraphs, with tied weights and an own learning rate for embeddings."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from pydoc_data.topics import topics
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from tangent import LoopWorkload, WorkloadCard

PARAGRAPHS = [
    re.findall(r"\w+|[^\w\s]", part.lower())[:64] for text in topics.values() for part in text.split("\n\n")
]
WORDS = [word for word, _ in Counter(word for words in PARAGRAPHS for word in words).most_common(998)]
IDS = {word: number for number, word in enumerate(WORDS, start=2)}  # 0 is padding, 1 any other word.
# Each text once, or splits would share some.
UNIQUE = dict.fromkeys(tuple(IDS.get(word, 1) for word in words) for words in PARAGRAPHS if len(words) > 8)
TOKENS = [torch.tensor(ids) for ids in UNIQUE]
SPLITS = {
    "train": [part for number, part in enumerate(TOKENS) if number % 10 > 1],
    "validation": TOKENS[::10],
    "test": TOKENS[1::10],
}


class WordModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 64, padding_idx=0)
        self.memory = nn.GRU(64, 64, batch_first=True)
        self.head = nn.Linear(64, 1000)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.memory(self.embedding(tokens))[0])


class LanguageModel(LoopWorkload):
    card = WorkloadCard(
        name="job-language-model",
        metric="perplexity",
        direction="minimize",
        epochs=5,
        batch_size=16,
        groups=("embedding",),
    )

    def build_model(self) -> WordModel:
        return WordModel()

    def parameter_groups(self, model: Any) -> Mapping[str, Iterable[nn.Parameter]]:
        return {"embedding": model.embedding.parameters()}

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterator[Tensor]:
        parts = SPLITS["train"]
        for first in count(0, batch_size):
            batch = [parts[number * 7919 % len(parts)] for number in range(first, first + batch_size)]
            yield pad_sequence(batch, batch_first=True)

    def training_step(self, model: WordModel, batch: Tensor) -> Tensor:
        return cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten(), ignore_index=0)

    def evaluate(self, model: WordModel, split: str, *, device: torch.device) -> dict[str, float]:
        loss, words = 0.0, 0
        for first in range(0, len(SPLITS[split]), 64):
            batch = pad_sequence(SPLITS[split][first : first + 64], batch_first=True).to(device)
            outputs, targets = model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten()
            loss += cross_entropy(outputs, targets, ignore_index=0, reduction="sum").item()
            words += int((targets != 0).sum())
        return {"perplexity": torch.tensor(loss / words).exp().item(), "loss": loss / words}
