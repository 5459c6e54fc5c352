"""A small character language model trained on the reference text that ships with Python."""

__all__ = ["PydocLm"]

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from studies.catalog import WorkloadCard
from workers.workloads.tensor_workload import Data, Split, TensorWorkload

CONTEXT = 64  # characters
WINDOWS = {"train": 4000, "validation": 500, "test": 500}
WIDTH = 32
HEADS = 2
BLOCKS = 2
EMBEDDING_DEVIATION = 0.2  # AdamW learns fastest with it at this width, compared with 0.02 and 1

SYMBOLS = "\n" + "".join(chr(code) for code in range(32, 127))
"""The characters that the model distinguishes; all others (curly quotes, dashes) share one more class."""


class PydocLm(TensorWorkload):
    """Next-character prediction by a transformer of two blocks, without dropout."""

    shares_data = True
    card = WorkloadCard(
        name="pydoc-lm",
        title="Python reference text, character transformer",
        description=(
            "The first 320,003 characters of Python's own help topics, cut into consecutive training, "
            "validation and test texts. A causal transformer of two blocks with width 32 and context 64, "
            "without dropout; cross-entropy loss. The text differs slightly between Python releases, so "
            "compare results within one release only."
        ),
        source="pydoc_data.topics of the running Python's standard library, PSF-2.0",
        metric="cross-entropy",
        unit="nats per character",
        direction="minimize",
        target=1.7,
        epochs=5,
        batch_size=16,
        examples={"train": 4000, "validation": 500, "test": 500},
        parameters=33825,
        epoch_s=2.5,
    )

    def load_data(self, device: torch.device) -> Data:
        """Return windows of 64 characters and the characters that follow each of them, both int64 [N, 64].

        The windows of a split do not overlap, and the splits are consecutive stretches of the text.

        Raises:
            ValueError: this Python's help topics are too short.
        """
        from pydoc_data.topics import topics

        text = "".join(topics[name] for name in sorted(topics))
        needed = sum(CONTEXT * windows + 1 for windows in WINDOWS.values())
        if len(text) < needed:
            raise ValueError(
                f"pydoc-lm needs {needed} characters of pydoc_data.topics, but this Python has {len(text)}; "
                "use CPython 3.11 or later"
            )
        number = {symbol: index for index, symbol in enumerate(SYMBOLS)}
        codes = torch.tensor([number.get(symbol, len(SYMBOLS)) for symbol in text[:needed]])
        train, validation, test = (
            _windows(part)
            for part in torch.split(codes, [CONTEXT * windows + 1 for windows in WINDOWS.values()])
        )
        return Data(train=train, validation=validation, test=test).to(device)

    def build_model(self) -> nn.Module:
        """Return the transformer; linear weights are N(0, 1 / inputs), embeddings N(0, 0.2^2), biases 0."""
        return _Transformer()

    def loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy over all characters, of logits [B, T, symbols] and targets [B, T]."""
        return functional.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), label_smoothing=label_smoothing
        )

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over all windows of a window's nats per character."""
        return self.loss(outputs, targets) * targets.shape[0]


def _windows(codes: Tensor) -> Split:
    return Split(inputs=codes[:-1].reshape(-1, CONTEXT), targets=codes[1:].reshape(-1, CONTEXT))


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH)
        self.attention_out = nn.Linear(WIDTH, WIDTH)
        self.feedforward_norm = nn.LayerNorm(WIDTH)
        self.feedforward = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:  # [B, T, WIDTH], [T, T]
        states = states + self._attend(self.attention_norm(states), mask)
        return states + self.feedforward(self.feedforward_norm(states))

    # Attention by hand, because torch's has no batching rule for its CPU backward pass under vmap.
    def _attend(self, states: Tensor, mask: Tensor) -> Tensor:
        batch, length, _ = states.shape
        query, key, value = (
            self.query_key_value(states).view(batch, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        )
        scores = query @ key.transpose(-2, -1) / math.sqrt(WIDTH // HEADS) + mask  # [B, HEADS, T, T]
        mixed = scores.softmax(dim=-1) @ value
        return self.attention_out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))


class _Transformer(nn.Module):
    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.symbols = nn.Embedding(len(SYMBOLS) + 1, WIDTH)
        self.positions = nn.Parameter(torch.empty(CONTEXT, WIDTH))
        self.blocks = nn.ModuleList(_Block() for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(WIDTH)
        self.logits = nn.Linear(WIDTH, len(SYMBOLS) + 1)
        self.register_buffer(
            "mask", torch.full((CONTEXT, CONTEXT), -math.inf).triu(diagonal=1), persistent=False
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1.0 / math.sqrt(module.in_features))
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.symbols.weight, std=EMBEDDING_DEVIATION)
        nn.init.normal_(self.positions, std=EMBEDDING_DEVIATION)

    def forward(self, inputs: Tensor) -> Tensor:  # int64 [B, T] to logits [B, T, symbols]
        states = self.symbols(inputs) + self.positions
        for block in self.blocks:
            states = block(states, self.mask)
        return self.logits(self.norm(states))
