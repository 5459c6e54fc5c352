"""A convolutional network behind harmonic filters, and the losses and metrics of audio.

The filters follow Won et al. (2020), "Data-driven harmonic filters for audio representation learning": their
centres are a quarter tone apart and repeated at each harmonic, and one trained number sets all bandwidths.
The network behind them is our own. Values that the paper leaves open are those of the authors' repository,
minzwon/data-driven-harmonic-filters.

A model returns a logit for each class and time step, [B, classes, T]. A clip's logit is the largest one.
"""

__all__ = [
    "SAMPLE_RATE",
    "HarmonicCnn",
    "HarmonicFilters",
    "clip_loss",
    "event_metrics",
    "f1",
    "segment_logits",
    "tagging_metrics",
]

import math
from importlib import import_module
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

SAMPLE_RATE: Final = 16_000
"""Samples per second of all audio."""
_WINDOW: Final = 512  # samples
_HOP: Final = 256  # samples
_HARMONICS: Final = 6
_BANDS: Final = 128
_LOWEST: Final = 440.0 * 2 ** (-45 / 12)  # Hz, the note C1
# A filter's bandwidth is (0.1079 f + 24.7) / q Hz: the equivalent rectangular bandwidth of Glasberg and Moore
# (1990) for q = 1.
_SLOPE: Final = 0.1079
_OFFSET: Final = 24.7
_BLOCKS: Final = 7
_BLOCKS_IN_TIME: Final = 5
"""How many blocks halve the number of time steps: about two of them are left for each second."""


class HarmonicFilters(nn.Module):
    """Triangular band-pass filters at the harmonics of 128 notes.

    Attributes:
        q: divides all bandwidths, [1]; trained.
    """

    window: Tensor
    frequencies: Tensor
    centres: Tensor

    def __init__(self) -> None:
        super().__init__()
        notes = _LOWEST * 2 ** (torch.arange(_BANDS) / 24)
        centres = torch.outer(torch.arange(1, _HARMONICS + 1), notes)
        self.register_buffer("window", torch.hann_window(_WINDOW), persistent=False)
        self.register_buffer(
            "frequencies", torch.linspace(0, SAMPLE_RATE / 2, _WINDOW // 2 + 1), persistent=False
        )
        self.register_buffer("centres", centres, persistent=False)
        self.q = nn.Parameter(torch.ones(1))

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return the energy in decibels behind each filter, [B, harmonics, bands, frames], in float32.

        Args:
            waveforms: [B, samples].
        """
        # Sums of squares need float32.
        with torch.autocast(waveforms.device.type, enabled=False):
            spectrum = torch.stft(
                waveforms.float(), _WINDOW, _HOP, window=self.window, return_complex=True
            ).abs()
            energy = torch.einsum("hbf,nft->nhbt", self._responses(), spectrum.square())
            return 10.0 * energy.clamp_min(1e-10).log10()

    def _responses(self) -> Tensor:  # [harmonics, bands, frequencies]
        centres = self.centres.unsqueeze(-1)
        bandwidths = (_SLOPE * centres + _OFFSET) / self.q
        return (1.0 - 2.0 * (self.frequencies - centres).abs() / bandwidths).clamp_min(0.0)


class _TimeFrequencyBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a shortcut, then max pooling."""

    def __init__(self, channels_in: int, channels: int, *, pooling: tuple[int, int]) -> None:
        super().__init__()
        self.pooling = pooling
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, maps: Tensor) -> Tensor:  # [B, channels_in, bands, T] to [B, channels, ...]
        return functional.max_pool2d((self.body(maps) + self.shortcut(maps)).relu(), self.pooling)


class HarmonicCnn(nn.Module):
    """Harmonic filters, seven residual blocks that pool all bands into one, and two dense layers.

    Args:
        classes: number of classes.
        channels: of each block.
    """

    def __init__(self, classes: int, *, channels: int = 128) -> None:
        super().__init__()
        self.filters = HarmonicFilters()
        self.norm = nn.BatchNorm2d(_HARMONICS)
        self.blocks = nn.Sequential(
            *(
                _TimeFrequencyBlock(
                    channels if number else _HARMONICS,
                    channels,
                    pooling=(2, 2 if number < _BLOCKS_IN_TIME else 1),
                )
                for number in range(_BLOCKS)
            )
        )
        self.head = nn.Sequential(
            nn.Conv1d(channels, channels, 1, bias=False),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv1d(channels, classes, 1),
        )

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return logits [B, classes, T], about two time steps for each second.

        Args:
            waveforms: [B, samples].
        """
        return self.head(self.blocks(self.norm(self.filters(waveforms))).squeeze(2))


def clip_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of each clip's largest logits.

    Args:
        logits: [B, classes, T].
        tags: 0 or 1, [B, classes].
    """
    return functional.binary_cross_entropy_with_logits(logits.amax(dim=-1), tags)


def segment_logits(logits: Tensor, segments: int) -> Tensor:
    """Return the largest logit of each of equally long segments, [B, classes, segments].

    Args:
        logits: [B, classes, T].
        segments: the number of segments.
    """
    return functional.adaptive_max_pool1d(logits, segments)


def tagging_metrics(scores: Tensor, tags: Tensor) -> dict[str, float]:
    """Return the area under the ROC curve and the average precision, each a mean over tags.

    Tags that all clips have, or none, are left out. Both are NaN if a score is not finite.

    Args:
        scores: higher for likelier tags, [clips, tags].
        tags: 0 or 1, [clips, tags].
    """
    # It has no type stubs, and its import takes a second.
    metrics: Any = import_module("sklearn.metrics")
    scores, tags = scores.float().cpu(), tags.cpu()
    used = (tags > 0).any(dim=0) & (tags == 0).any(dim=0)
    if not used.any() or not scores.isfinite().all():
        return {"roc_auc": math.nan, "pr_auc": math.nan}
    both = tags[:, used].numpy(), scores[:, used].numpy()
    return {
        "roc_auc": float(metrics.roc_auc_score(*both)),
        "pr_auc": float(metrics.average_precision_score(*both)),
    }


def f1(found: Tensor, truth: Tensor) -> float:
    """Return the F1 score over all decisions together: 2 TP / (2 TP + FP + FN); 0 without any.

    Args:
        found: bool, any shape.
        truth: bool, the same shape.
    """
    sizes = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / sizes if sizes else 0.0


def event_metrics(logits: Tensor, truth: Tensor) -> dict[str, float]:
    """Return the F1 scores of clips and of segments, NaN if a logit is not finite.

    Args:
        logits: [clips, classes, segments].
        truth: 0 or 1, the same shape.
    """
    if not logits.isfinite().all():
        return {"f1": math.nan, "segment_f1": math.nan}
    found, real = logits > 0, truth > 0
    return {"f1": f1(found.any(dim=-1), real.any(dim=-1)), "segment_f1": f1(found, real)}
