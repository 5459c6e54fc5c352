"""Language models with memory: Transformer-XL on WikiText-103, and a small one on Python's help topics.

Sources: Dai et al. (2019), arXiv:1901.02860, for the model; its settings on WikiText-103 are those of
pytorch/run_wt103_base.sh in kimiyoung/transformer-xl. Weight norm is Salimans and Kingma (2016),
arXiv:1602.07868. The perplexities of Heo et al. (2021) are table 7 of AdamP's project page.
"""

__all__ = [
    "MEMORY_LM",
    "PydocTransformerXl",
    "TransformerXl",
    "TransformerXlSizes",
    "Wikitext103TransformerXl",
]

import functools
import itertools
import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from studies.catalog import Bounds, Hyperparameter, PublishedResult, WorkloadCard
from studies.space import Choices, Range
from workers.workloads.loop_workload import LoopWorkload, SplitName, to_device
from workers.workloads.pydoc_lm import SYMBOLS, PydocLm
from workers.workloads.requirements import data_folder, missing_files

EVALUATION_STREAMS = 10
"""Texts are evaluated as this many consecutive parts side by side; each part starts without memory."""


@dataclass(frozen=True, kw_only=True)
class TransformerXlSizes:
    """The sizes of a Transformer-XL.

    Attributes:
        vocabulary: different tokens.
        layers: blocks of attention and feed-forward layers.
        width: length of a token's state.
        heads: heads of attention, each of `width / heads`.
        inner: units of the feed-forward layers.
        cutoffs: where the clusters of the adaptive softmax begin, in a vocabulary sorted by frequency; empty
            for a plain softmax.
    """

    vocabulary: int
    layers: int
    width: int
    heads: int
    inner: int
    cutoffs: tuple[int, ...] = ()


class _RelativeAttention(nn.Module):
    """Attention to a segment and its memory by content and by distance: section 3.3 of the paper."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.distance = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(heads, 1, width // heads))
        self.distance_bias = nn.Parameter(torch.zeros(heads, 1, width // heads))

    def forward(self, states: Tensor, before: Tensor, distances: Tensor, mask: Tensor) -> Tensor:
        """Return the attention's output for each state.

        Args:
            states: [B, T, width].
            before: [B, M, width], the memory.
            distances: [M + T, width], the encodings of the distances M + T - 1 to 0.
            mask: [T, M + T], 0 where a state may look and minus infinity elsewhere.
        """
        batch, length, width = states.shape
        query = self._by_head(self.query(states))  # [B, H, T, D]
        key, value = map(
            self._by_head, self.key_value(torch.cat([before, states], dim=1)).chunk(2, dim=-1)
        )  # [B, H, M + T, D]
        by_distance = self._by_head(self.distance(distances).unsqueeze(0))  # [1, H, M + T, D]
        content = (query + self.content_bias) @ key.transpose(-2, -1)
        position = _aligned((query + self.distance_bias) @ by_distance.transpose(-2, -1))
        scores = (content + position) / math.sqrt(width // self.heads) + mask
        mixed = scores.softmax(dim=-1) @ value
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))

    def _by_head(self, states: Tensor) -> Tensor:  # [B, K, width] to [B, H, K, D]
        return states.reshape(*states.shape[:2], self.heads, -1).transpose(1, 2)


def _aligned(scores: Tensor) -> Tensor:
    """Move each row of scores so that a column is a position in the text instead of a distance.

    Row i of T has the distances K - 1 to 0 in its columns, and position j is at the distance K - T + i - j,
    so each row moves left by T - 1 - i. What comes in from the right is masked later. Appendix B of the
    paper does this with a reshape, which needs no index.

    Args:
        scores: [B, H, T, K].
    """
    batch, heads, rows, columns = scores.shape
    padded = functional.pad(scores, (1, 0)).reshape(batch, heads, columns + 1, rows)
    return padded[:, :, 1:].reshape(batch, heads, rows, columns)


class _MemoryBlock(nn.Module):
    """Attention and feed-forward layers, each with a residual connection and layer normalisation after it."""

    def __init__(self, sizes: TransformerXlSizes, dropout: float) -> None:
        super().__init__()
        self.attention = _RelativeAttention(sizes.width, sizes.heads)
        self.attention_norm = nn.LayerNorm(sizes.width)
        self.feedforward = nn.Sequential(
            nn.Linear(sizes.width, sizes.inner),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(sizes.inner, sizes.width),
        )
        self.feedforward_norm = nn.LayerNorm(sizes.width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, before: Tensor, distances: Tensor, mask: Tensor) -> Tensor:
        attended = self.attention(states, before, distances, mask)
        states = self.attention_norm(states + self.dropout(attended))
        return self.feedforward_norm(states + self.dropout(self.feedforward(states)))


class TransformerXl(nn.Module):
    """A causal decoder with relative positions whose blocks also see their inputs of the last segment.

    Embeddings and softmax share one matrix. In training the memory is kept between steps: within a text it is
    part of `state_dict`, so that a trial that continues there continues with its memory.

    Args:
        sizes: the sizes.
        dropout: rate after the embeddings, in and after the feed-forward layers, and after attention.
        weight_norm: whether each linear layer of the blocks is split into a length and a direction for each
            output, as `torch.nn.utils.parametrizations.weight_norm` does; the initial function is the same.
    """

    distance_periods: Tensor

    def __init__(self, sizes: TransformerXlSizes, *, dropout: float = 0.0, weight_norm: bool = False) -> None:
        super().__init__()
        self.sizes = sizes
        self.symbols = nn.Embedding(sizes.vocabulary, sizes.width)
        edges = [0, *(cutoff for cutoff in sizes.cutoffs if cutoff < sizes.vocabulary), sizes.vocabulary]
        self.clusters = list(itertools.pairwise(edges[1:]))
        self.first_cluster = edges[1]
        self.cluster_logits = nn.Linear(sizes.width, len(self.clusters)) if self.clusters else None
        self.symbol_biases = nn.Parameter(torch.zeros(sizes.vocabulary))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_MemoryBlock(sizes, dropout) for _ in range(sizes.layers))
        # 0.02 at the paper's width of 410, and the same size of the logits at any other width.
        deviation = 0.02 * math.sqrt(410 / sizes.width)
        linear = [module for module in self.modules() if isinstance(module, nn.Linear)]
        for module in linear:
            nn.init.normal_(module.weight, std=deviation)
            if cast("Tensor | None", module.bias) is not None:
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.symbols.weight, std=deviation)
        periods = 10_000 ** (-torch.arange(0, sizes.width, 2) / sizes.width)
        self.register_buffer("distance_periods", periods, persistent=False)
        if weight_norm:
            for module in linear:
                if module is not self.cluster_logits:
                    parametrizations.weight_norm(module)
        self.memory: Tensor = torch.zeros(0)

    def get_extra_state(self) -> Tensor:
        """Return the memory of the training text, for `state_dict`."""
        return self.memory

    def set_extra_state(self, state: Tensor) -> None:
        """Restore what `get_extra_state` returned."""
        self.memory = state.to(self.symbols.weight.device)

    def forward(self, tokens: Tensor, memory: Tensor | None, keep: int) -> tuple[Tensor, Tensor]:
        """Return the last block's states [B, T, width], and the memory for the next segment.

        Args:
            tokens: int64 [B, T].
            memory: what the segment before returned, [layers, B, M, width]; None at the start of a text.
            keep: how many tokens the next segment's memory covers, at most.
        """
        length = tokens.shape[1]
        states = self.dropout(self.symbols(tokens) * math.sqrt(self.sizes.width))
        if memory is None:
            memory = torch.zeros(self.sizes.layers, len(tokens), 0, self.sizes.width, device=tokens.device)
        total = memory.shape[2] + length
        distances = self.dropout(self._encoded(torch.arange(total - 1, -1, -1, device=tokens.device)))
        ahead = torch.ones(length, total, dtype=torch.bool, device=tokens.device).triu(total - length + 1)
        mask = torch.zeros(length, total, device=tokens.device).masked_fill(ahead, -math.inf)
        kept: list[Tensor] = []
        for block, before in zip(self.blocks, memory.to(states.dtype), strict=True):
            kept.append(torch.cat([before, states.detach()], dim=1)[:, max(0, total - keep) :])
            states = block(states, before, distances, mask)
        return self.dropout(states), torch.stack(kept)

    def _encoded(self, distances: Tensor) -> Tensor:  # [K] to [K, width], sines and cosines
        angles = distances.float().unsqueeze(1) * self.distance_periods
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    def negative_log_likelihood(self, states: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over all tokens of -ln p, in float32.

        The adaptive softmax is that of Grave et al. (2017), arXiv:1609.04309, without projections: rare
        tokens are in clusters, and a cluster is as likely as its logit beside those of the common tokens.

        Args:
            states: [B, T, width].
            targets: int64 [B, T].
        """
        states, targets = states.flatten(0, 1), targets.flatten()
        first = self._logits(states, 0, self.first_cluster)
        if self.cluster_logits is None:
            return functional.cross_entropy(first.float(), targets, reduction="sum")
        both = torch.cat([first, self.cluster_logits(states)], dim=1).float()
        choices = targets
        total = both.new_zeros(())
        for number, (low, high) in enumerate(self.clusters):
            inside = (targets >= low) & (targets < high)
            choices = torch.where(inside, self.first_cluster + number, choices)
            rare = self._logits(states[inside], low, high).float()
            total = total + functional.cross_entropy(rare, targets[inside] - low, reduction="sum")
        return total + functional.cross_entropy(both, choices, reduction="sum")

    def _logits(self, states: Tensor, low: int, high: int) -> Tensor:
        return functional.linear(states, self.symbols.weight[low:high], self.symbol_biases[low:high])


class _MemoryLm(LoopWorkload):
    """A text in each split, read in segments by a model that keeps its memory between them."""

    segment: ClassVar[int]
    """Tokens of a segment."""
    memory: ClassVar[int]
    """Tokens that the memory covers."""
    dropout: ClassVar[float] = 0.0

    @abstractmethod
    def text(self, split: str) -> Tensor:
        """Return the tokens of a split in order, integers [N]."""

    @abstractmethod
    def sizes(self) -> TransformerXlSizes:
        """Return the sizes of the model."""

    def build_model(self) -> nn.Module:
        """Return the model; linear weights and embeddings are N(0, 0.02^2 * 410 / width), biases 0."""
        dropout = float(self.config.get("dropout", self.dropout))
        return TransformerXl(self.sizes(), dropout=dropout, weight_norm=bool(self.config["weight_norm"]))

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return how many segments each of `batch_size` parts of the training text has."""
        return (len(self.text("train")) - 1) // self.segment // batch_size

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterator[dict[str, Any]]:
        """Yield segments of all parts of the training text side by side, from the start to the end."""
        del epoch
        steps = self.steps_per_epoch(batch_size)
        yield from _segments(
            self.text("train"), streams=batch_size, length=steps * self.segment, segment=self.segment
        )

    def training_step(self, model: TransformerXl, batch: dict[str, Any]) -> Tensor:
        """Return the mean cross-entropy in nats per token, and keep the memory in the model.

        The next pass starts without memory, so the last segment leaves none: it would be in every checkpoint.
        """
        memory = None if batch["is_first"] else model.memory
        states, memory = model(batch["tokens"], memory, self.memory)
        model.memory = memory.new_zeros(0) if batch["is_last"] else memory
        return model.negative_log_likelihood(states, batch["targets"]) / batch["targets"].numel()

    def evaluate(
        self, model: TransformerXl, split: SplitName, *, device: torch.device
    ) -> dict[str, float | Tensor]:
        """Return the perplexity and the cross-entropy over a text, with memory."""
        text = self.text(split)
        streams = min(EVALUATION_STREAMS, len(text) - 1)
        total = torch.zeros((), device=device)
        memory: Tensor | None = None
        length = (len(text) - 1) // streams
        for batch in _segments(text, streams=streams, length=length, segment=self.segment):
            batch = to_device(batch, device)
            states, memory = model(batch["tokens"], memory, self.memory)
            total += model.negative_log_likelihood(states, batch["targets"])
        loss = total / (streams * length)
        return {"perplexity": loss.exp(), "loss": loss}


def _segments(text: Tensor, *, streams: int, length: int, segment: int) -> Iterator[dict[str, Any]]:
    """Yield the segments of consecutive parts of a text side by side, each with the tokens that follow."""
    used = streams * length
    tokens, targets = text[:used].view(streams, length), text[1 : used + 1].view(streams, length)
    for start in range(0, length, segment):
        part = slice(start, start + segment)
        yield {
            "tokens": tokens[:, part].long(),
            "targets": targets[:, part].long(),
            "is_first": start == 0,
            "is_last": start + segment >= length,
        }


_WEIGHT_NORM = Hyperparameter(
    name="weight_norm",
    description="Whether each linear layer of the blocks is split into a length and a direction.",
    default=False,
    search=Choices(choices=(False, True)),
    source="Heo et al. (2021), table 7, compare both",
)


class Wikitext103TransformerXl(_MemoryLm):
    """Transformer-XL base on WikiText-103."""

    segment = 150
    memory = 150
    card = WorkloadCard(
        name="wikitext103-transformer-xl",
        title="WikiText-103, Transformer-XL",
        description=(
            "103 million words of Wikipedia in order, with 267,735 different ones. Transformer-XL base: 16 "
            "layers of width 410 with relative positions, segments and memory of 150 words, adaptive "
            "softmax that shares the embeddings. `weight_norm` splits the linear layers of its blocks. "
            "Validation and test texts are read in ten parts with the memory of training; the paper of "
            "Transformer-XL gives the test text a memory of 640."
        ),
        source="WikiText-103 (Merity et al., 2016), CC BY-SA 3.0; the user's own copy",
        metric="perplexity",
        unit="per word",
        direction="minimize",
        epochs=17,
        batch_size=60,
        parameters=151_119_838,
        hyperparameters=(
            _WEIGHT_NORM,
            Hyperparameter(
                name="dropout",
                description="Share of the units that are set to 0 in training.",
                unit="fraction",
                default=0.1,
                search=Range(low=0.0, high=0.3),
                source="0.1 in kimiyoung/transformer-xl, pytorch/run_wt103_base.sh",
                bounds=Bounds(low=0, high=1, high_open=True),
            ),
        ),
        # A second pass over a batch would see the memory after it.
        refuses=("closure",),
        published=tuple(
            PublishedResult(
                optimizer=optimizer,
                value=value,
                setting=setting,
                source="Heo et al. (2021), AdamP's project page, table 7",
            )
            for optimizer, value, setting in (
                ("adamw", 23.38, "Transformer-XL"),
                ("adamp", 23.26, "Transformer-XL"),
                ("adamw", 23.96, "Transformer-XL with weight norm"),
                ("adamp", 22.77, "Transformer-XL with weight norm"),
            )
        ),
    )

    def missing(self) -> str | None:
        """Return how the files of WikiText-103 must lie, if they are missing."""
        return missing_files(
            data_folder("wikitext-103"),
            "the three files of wikitext-103-v1.zip, words separated by spaces",
            *(f"wiki.{name}.tokens" for name in ("train", "valid", "test")),
        )

    def text(self, split: str) -> Tensor:
        """Return the words of a split by their rank in the training text; a line ends with a word too.

        Raises:
            ValueError: a word does not occur in the training text.
        """
        return _wikitext(data_folder("wikitext-103"))[split]

    def sizes(self) -> TransformerXlSizes:
        """Return the sizes of Transformer-XL base, for the words of the training text."""
        return TransformerXlSizes(
            vocabulary=_vocabulary_size(data_folder("wikitext-103")),
            layers=16,
            width=410,
            heads=10,
            inner=2100,
            cutoffs=(20_000, 40_000, 200_000),
        )


_END_OF_LINE = "<eos>"


def _words(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield from line.split()
            yield _END_OF_LINE


@functools.lru_cache(maxsize=1)
def _wikitext(folder: Path) -> dict[str, Tensor]:
    """Return the three texts of a folder."""
    counts = Counter(_words(folder / "wiki.train.tokens"))
    rank = {word: index for index, (word, _) in enumerate(counts.most_common())}

    def encoded(name: str) -> Tensor:
        file = folder / f"wiki.{name}.tokens"
        try:
            # Not a list: the training text has 103 million words.
            ids = np.fromiter((rank[word] for word in _words(file)), dtype=np.int32)
            return torch.from_numpy(ids)  # pyright: ignore[reportUnknownMemberType]
        except KeyError as error:
            raise ValueError(
                f"expected only words of wiki.train.tokens in {file}, got {error}; use the files of "
                "wikitext-103-v1.zip, in which rare words are <unk>"
            ) from None

    return {
        split: encoded(name)
        for split, name in (("train", "train"), ("validation", "valid"), ("test", "test"))
    }


def _vocabulary_size(folder: Path) -> int:
    return int(_wikitext(folder)["train"].max()) + 1


class PydocTransformerXl(_MemoryLm):
    """A small Transformer-XL on the characters of Python's help topics."""

    segment = 64
    memory = 64
    card = WorkloadCard(
        name="pydoc-transformer-xl",
        title="Python reference text, character Transformer-XL",
        description=(
            "The text of pydoc-lm, read in order. Two Transformer-XL blocks of width 32 with relative "
            "positions, segments and memory of 64 characters, without dropout. `weight_norm` splits the "
            "linear layers of its blocks. The text differs slightly between Python releases, so compare "
            "results within one release only."
        ),
        source="pydoc_data.topics of the running Python's standard library, PSF-2.0",
        metric="perplexity",
        unit="per character",
        direction="minimize",
        target=4.3,
        epochs=5,
        batch_size=16,
        examples={"train": 4000, "validation": 500, "test": 500},
        parameters=30_529,
        epoch_s=5.0,
        hyperparameters=(_WEIGHT_NORM,),
        refuses=("closure",),
    )

    def text(self, split: str) -> Tensor:
        """Return the characters of a split of pydoc-lm in order."""
        return _pydoc_texts()[split]

    def sizes(self) -> TransformerXlSizes:
        """Return two layers of width 32."""
        return TransformerXlSizes(vocabulary=len(SYMBOLS) + 1, layers=2, width=32, heads=2, inner=128)


@functools.cache
def _pydoc_texts() -> dict[str, Tensor]:
    data = PydocLm().load_data(torch.device("cpu"))
    return {
        name: torch.cat([split.inputs.flatten(), split.targets[-1, -1:]])
        for name, split in (("train", data.train), ("validation", data.validation), ("test", data.test))
    }


MEMORY_LM: tuple[LoopWorkload, ...] = (Wikitext103TransformerXl(), PydocTransformerXl())
