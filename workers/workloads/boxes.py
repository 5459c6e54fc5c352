"""Boxes of objects in pictures: batches of them, their overlap, and average precision."""

__all__ = ["Found", "Truth", "average_precision", "ground_truth", "numbers", "overlaps", "suppressed"]

import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


class Truth(NamedTuple):
    """The objects in a batch of B pictures, each padded to the M of the picture with most.

    Attributes:
        boxes: left, top, right and bottom edges in pixels, float32 [B, M, 4].
        labels: classes from 0, and -1 for padding, int64 [B, M].
    """

    boxes: Tensor
    labels: Tensor

    @staticmethod
    def of(boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> "Truth":
        """Return the objects of pictures with boxes [n, 4] and labels [n] each."""
        return Truth(
            boxes=pad_sequence(list(boxes), batch_first=True),
            labels=pad_sequence(list(labels), batch_first=True, padding_value=-1),
        )


class Found(NamedTuple):
    """The boxes that a detector has found in one picture.

    Attributes:
        picture: the picture's id.
        boxes: left, top, right and bottom edges in pixels [n, 4].
        labels: the ids of their categories [n].
        scores: higher where the detector is more certain [n].
    """

    picture: int
    boxes: Tensor
    labels: Tensor
    scores: Tensor


def numbers(tensor: Tensor) -> list[Any]:
    """Return a tensor as nested lists of numbers."""
    # torch leaves it partly untyped.
    return cast("Any", tensor).tolist()


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersections over unions [..., N, M] of boxes [..., N, 4] and [..., M, 4]."""
    corner = torch.maximum(first[..., :, None, :2], second[..., None, :, :2])
    far = torch.minimum(first[..., :, None, 2:], second[..., None, :, 2:])
    common = (far - corner).clamp(min=0).prod(dim=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(dim=-1) for boxes in (first, second)]
    return common / (areas[0][..., :, None] + areas[1][..., None, :] - common).clamp(min=1e-9)


def suppressed(boxes: Tensor, scores: Tensor, *, overlap: float) -> Tensor:
    """Return the indices of the boxes that remain after non-maximum suppression, the best first.

    Args:
        boxes: boxes [N, 4].
        scores: their scores [N].
        overlap: a box goes if it overlaps a better one that remains by more than this.
    """
    order = scores.argsort(descending=True, stable=True)
    is_over = (overlaps(boxes[order], boxes[order]) > overlap).cpu()
    kept = torch.ones(len(order), dtype=torch.bool)
    for index in range(len(order)):
        if kept[index]:
            kept[index + 1 :] &= ~is_over[index, index + 1 :]
    return order[kept.to(order.device)]


def ground_truth(
    pictures: Iterable[int], categories: Iterable[int], annotations: Iterable[Mapping[str, Any]]
) -> Any:
    """Return a faster-coco-eval `COCO` of pictures, with annotations in COCO's format.

    Args:
        pictures: ids of all pictures.
        categories: ids of all categories.
        annotations: each with `image_id`, `category_id`, `bbox` (x, y, width, height), `area`, and `iscrowd`.
    """
    return _evaluation().COCO(
        {
            "images": [{"id": picture} for picture in pictures],
            "categories": [{"id": category} for category in categories],
            # The evaluation takes an id of 0 for no match.
            "annotations": [{**each, "id": number} for number, each in enumerate(annotations, start=1)],
        }
    )


def average_precision(truth: Any, found: Iterable[Found]) -> float:
    """Return COCO's average precision, a fraction: the mean over overlaps from 0.5 to 0.95 and categories.

    It is NaN if a box or a score is not finite, as those of a diverged model.

    Args:
        truth: what `ground_truth` returned.
        found: the boxes found in its pictures; the best 100 of each picture count.
    """
    found = list(found)
    if not all(each.boxes.isfinite().all() and each.scores.isfinite().all() for each in found):
        return math.nan
    guesses: list[dict[str, Any]] = [
        {
            "image_id": each.picture,
            "category_id": label,
            "bbox": [left, top, right - left, bottom - top],
            "score": score,
        }
        for each in found
        for (left, top, right, bottom), label, score in zip(
            numbers(each.boxes), numbers(each.labels), numbers(each.scores), strict=True
        )
    ]
    judged = _evaluation().COCOeval_faster(
        truth, truth.loadRes(guesses), "bbox", print_function=_print_nothing
    )
    judged.run()
    # Without a single true object the library returns -1.
    return max(0.0, float(judged.stats[0]))


def _evaluation() -> Any:
    # Not every installation has it.
    return import_module("faster_coco_eval")


def _print_nothing(*_: object) -> None: ...
