"""AdamP and SGDP in NumPy, float64, written from the equations of arXiv:2006.08217 and not from any code.

The tests compare `adamp` with this oracle. It is slow and literal on purpose: it computes each unit vector,
tests one view after the other, and branches on values, which `adamp` must not do.
"""

__all__ = ["adamp_weights", "cosines", "sgdp_weights", "tangent", "view_projected"]

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
View = Literal["channel", "layer"]


def cosines(grad: Array, weight: Array, view: View, eps: float) -> Array:
    """Return |cos(g, w)| of each row of a view, [rows], with each norm separately clamped to at least eps."""
    g, w = _rows(grad, view), _rows(weight, view)
    g_unit = g / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), eps)
    w_unit = w / np.maximum(np.linalg.norm(w, axis=1, keepdims=True), eps)
    return np.abs((g_unit * w_unit).sum(axis=1))


def view_projected(grad: Array, weight: Array, *, delta: float, eps: float) -> View | None:
    """Return the first view whose cosines are all below delta / sqrt(row length).

    Return None if there is none, or if w has no rows.
    """
    if weight.ndim < 2 or weight.size == 0:
        return None
    views: tuple[View, View] = ("channel", "layer")
    for view in views:
        if bool(np.all(cosines(grad, weight, view, eps) < delta / math.sqrt(_rows(weight, view).shape[1]))):
            return view
    return None


def tangent(vector: Array, weight: Array, view: View, eps: float = 0.0) -> Array:
    """Return `vector` without its component along each row of the weight.

    P(u) = u - w^ <w^, u> with w^ = w / (norm(w) + eps).
    """
    u, w = _rows(vector, view), _rows(weight, view)
    unit = w / (np.linalg.norm(w, axis=1, keepdims=True) + eps)
    return (u - unit * (unit * u).sum(axis=1, keepdims=True)).reshape(vector.shape)


def adamp_weights(
    start: Array,
    grads: Iterable[Array],
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    delta: float = 0.1,
    wd_ratio: float = 0.1,
    nesterov: bool = False,
) -> list[Array]:
    """Return the weight after each step of Algorithm 2 on the given gradients."""
    beta1, beta2 = betas
    w, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    weights: list[Array] = []
    for t, g in enumerate(grads, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        direction = beta1 * m + (1 - beta1) * g if nesterov else m
        u = direction / (np.sqrt(v) / math.sqrt(1 - beta2**t) + eps)
        u, factor = _projected(u, g, w, delta=delta, wd_ratio=wd_ratio, eps=eps)
        w = w * (1 - lr * weight_decay * factor) - lr / (1 - beta1**t) * u
        weights.append(w)
    return weights


def sgdp_weights(
    start: Array,
    grads: Iterable[Array],
    *,
    lr: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    eps: float = 1e-8,
    delta: float = 0.1,
    wd_ratio: float = 0.1,
    projects_buffer: bool = False,
) -> list[Array]:
    """Return the weight after each step of Algorithm 1.

    With `projects_buffer`, the buffer is projected too, as the reference does if `nesterov` is false.
    """
    w, buffer = start.copy(), np.zeros_like(start)
    weights: list[Array] = []
    for g in grads:
        buffer = momentum * buffer + (1 - dampening) * g
        u, factor = _projected(
            g + momentum * buffer if nesterov else buffer, g, w, delta=delta, wd_ratio=wd_ratio, eps=eps
        )
        if projects_buffer and not nesterov:
            buffer = u
        w = w * (1 - lr * weight_decay * factor / (1 - momentum)) - lr * u
        weights.append(w)
    return weights


def _projected(
    u: Array, g: Array, w: Array, *, eps: float, delta: float, wd_ratio: float
) -> tuple[Array, float]:
    view = view_projected(g, w, delta=delta, eps=eps)
    return (u, 1.0) if view is None else (tangent(u, w, view, eps), wd_ratio)


def _rows(array: Array, view: View) -> Array:
    return array.reshape(array.shape[0] if view == "channel" else 1, -1)
