"""Optimizers of the catalogue in float64, one weight at a time, written from their papers.

A rule is a coroutine: it gets the first weight and the configuration of a card, is sent a gradient and a
learning rate for each step, and yields the weight after it. `tests/workers/optimizers/test_conformance.py`
compares the trajectories of the catalogue's optimizers with them; `docs/optimizers.md` names the sources.
"""

__all__ = ["ORACLES", "Oracle", "followed"]

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, cast

import torch
from adamp_oracle import tangent, view_projected
from torch import Tensor

Configuration = Mapping[str, Any]
Steps = Generator[Tensor, tuple[Tensor, float], None]
JointSteps = Generator[list[Tensor], tuple[list[Tensor], float], None]
Rule = Callable[[Tensor, Configuration], Steps]
JointRule = Callable[[list[Tensor], list[Configuration]], JointSteps]


@dataclass(frozen=True)
class Oracle:
    """The steps that an optimizer should take.

    Attributes:
        rule: the steps of one weight.
        source: the equations that it is written from.
        tolerance: how far weights of order 1 may part from it in a dozen steps.
        joint: the steps of all weights together, for an optimizer that does not treat each by itself.
        passes: gradients that a step takes, each at the weights that the oracle yields.
    """

    rule: Rule | None
    source: str
    tolerance: float = 1e-11
    joint: JointRule | None = None
    passes: int = 1


def followed(
    oracle: Oracle, weights: Sequence[Tensor], configurations: Sequence[Configuration]
) -> JointSteps:
    """Return the started steps of all weights, each with its own configuration."""
    starts = [weight.detach().clone() for weight in weights]
    joint = oracle.joint or _each(oracle.rule)
    steps = joint(starts, list(configurations))
    next(steps)
    return steps


def _each(rule: Rule | None) -> JointRule:
    assert rule is not None

    def joint(weights: list[Tensor], configurations: list[Configuration]) -> JointSteps:
        rules = [rule(w, c) for w, c in zip(weights, configurations, strict=True)]
        weights = [next(steps) for steps in rules]
        while True:
            grads, lr = yield weights
            weights = [steps.send((g, lr)) for steps, g in zip(rules, grads, strict=True)]

    return joint


def _sgd(w: Tensor, c: Configuration) -> Steps:
    buffer = None
    momentum, nesterov = c["momentum"], c.get("nesterov", "dampening" not in c)
    while True:
        g, lr = yield w
        g = g + c["weight_decay"] * w
        buffer = g if buffer is None else momentum * buffer + (1 - c.get("dampening", 0.0)) * g
        w = w - lr * ((g + momentum * buffer) if nesterov else buffer)


def _adam(kind: str) -> Rule:
    """Return the steps of Adam (L2), AdamW, NAdam (L2), NAdamW, RAdam (L2) or AdaBelief."""

    def rule(w: Tensor, c: Configuration) -> Steps:
        b1, b2, eps, decay = c["beta1"], c["beta2"], c["eps"], c["weight_decay"]
        m = v = torch.zeros_like(w)
        product = 1.0
        for t in count(1):
            g, lr = yield w
            if kind in {"adam", "nadam", "radam"}:
                g = g + decay * w
            else:
                w = w * (1 - lr * decay)
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * (g - m) ** 2 + eps if kind == "adabelief" else b2 * v + (1 - b2) * g**2
            scale = (v / (1 - b2**t)).sqrt() + eps
            if kind in {"nadam", "nadamw"}:
                mu, after = (b1 * (1 - 0.5 * 0.96 ** (k * c["momentum_decay"])) for k in (t, t + 1))
                product *= mu
                direction = (1 - mu) / (1 - product) * g + after / (1 - product * after) * m
                w = w - lr * direction / scale
            elif kind == "radam":
                longest = 2 / (1 - b2) - 1
                length = longest - 2 * t * b2**t / (1 - b2**t)
                mean = m / (1 - b1**t)
                if length > 5:
                    square = (length - 4) * (length - 2) * longest
                    r = math.sqrt(square / ((longest - 4) * (longest - 2) * length))
                    # torch adds eps before the bias correction.
                    w = w - lr * r * mean * math.sqrt(1 - b2**t) / (v.sqrt() + eps)
                else:
                    w = w - lr * mean
            else:
                w = w - lr * m / (1 - b1**t) / scale

    return rule


def _orthogonalised(matrix: Tensor, steps: int) -> Tensor:
    """Return U f(S) V^T of a matrix U S V^T, f the quintic of Jordan et al. 2024 applied `steps` times."""
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.norm()
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ v


def _muon(w: Tensor, c: Configuration) -> Steps:
    if not c["set_apart"]:
        # A weight that is spared decay is spared either.
        decay = c["adamw_weight_decay"] if c["weight_decay"] else 0.0
        steps = _adam("adamw")(w, {**c, "eps": 1e-8, "weight_decay": decay})
        w = next(steps)
        while True:
            g, lr = yield w
            w = steps.send((g, lr / c["lr"] * c["adamw_lr"]))
    buffer = torch.zeros_like(w)
    while True:
        g, lr = yield w
        buffer = c["momentum"] * buffer + (1 - c["momentum"]) * g
        direction = (1 - c["momentum"]) * g + c["momentum"] * buffer if c["nesterov"] else buffer
        flat = direction.reshape(len(w), -1)
        step = 0.2 * math.sqrt(max(flat.shape)) * _orthogonalised(flat, c["ns_steps"])
        w = w * (1 - lr * c["weight_decay"]) - lr * step.reshape(w.shape)


def _adamp(w: Tensor, c: Configuration) -> Steps:
    m = v = torch.zeros_like(w)
    b1, b2 = c["beta1"], c["beta2"]
    for t in count(1):
        g, lr = yield w
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        direction = b1 * m + (1 - b1) * g if c["nesterov"] else m
        u, factor = _projected(direction / ((v / (1 - b2**t)).sqrt() + c["eps"]), g, w, c)
        w = w * (1 - lr * c["weight_decay"] * factor) - lr / (1 - b1**t) * u


def _sgdp(w: Tensor, c: Configuration) -> Steps:
    buffer, momentum = torch.zeros_like(w), c["momentum"]
    while True:
        g, lr = yield w
        buffer = momentum * buffer + (1 - c["dampening"]) * g
        u, factor = _projected(g + momentum * buffer if c["nesterov"] else buffer, g, w, c)
        w = w * (1 - lr * c["weight_decay"] * factor / (1 - momentum)) - lr * u


def _projected(u: Tensor, g: Tensor, w: Tensor, c: Configuration) -> tuple[Tensor, float]:
    """Return a step without its radial part, and its factor of weight decay, where the weight qualifies."""
    step, grad, weight = u.numpy(), g.numpy(), w.numpy()
    view = view_projected(grad, weight, delta=c["delta"], eps=c["eps"])
    if view is None:
        return u, 1.0
    return torch.from_numpy(tangent(step, weight, view, c["eps"])), c["wd_ratio"]


def _adagrad(w: Tensor, c: Configuration) -> Steps:
    total = torch.full_like(w, c["initial_accumulator_value"])
    for t in count(1):
        g, lr = yield w
        g = g + c["weight_decay"] * w
        total = total + g**2
        w = w - lr / (1 + (t - 1) * c["lr_decay"]) * g / (total.sqrt() + c["eps"])


def _adafactor(w: Tensor, c: Configuration) -> Steps:
    rows = columns = v = torch.zeros(())
    for t in count(1):
        g, lr = yield w
        rate, share = min(lr, t**-0.5), t ** c["beta2_decay"]
        step = rate * max(1e-3, w.square().mean().sqrt().item())
        if g.ndim > 1:
            rows = (1 - share) * rows + share * g.square().mean(dim=-1, keepdim=True)
            columns = (1 - share) * columns + share * g.square().mean(dim=-2, keepdim=True)
            v = rows * columns / rows.mean(dim=-2, keepdim=True)
        else:
            v = (1 - share) * v + share * g.square()
        u = g / v.sqrt()
        u = u / max(1.0, u.square().mean().sqrt().item() / c["d"])
        w = w * (1 - lr * c["weight_decay"]) - step * u


def _lion(w: Tensor, c: Configuration) -> Steps:
    m = torch.zeros_like(w)
    while True:
        g, lr = yield w
        direction = (c["beta1"] * m + (1 - c["beta1"]) * g).sign()
        m = c["beta2"] * m + (1 - c["beta2"]) * g
        w = w - lr * (direction + c["weight_decay"] * w)


def _lamb(w: Tensor, c: Configuration) -> Steps:
    m = v = torch.zeros_like(w)
    while True:
        g, lr = yield w
        m = c["beta1"] * m + (1 - c["beta1"]) * g
        v = c["beta2"] * v + (1 - c["beta2"]) * g**2
        u = m / (v.sqrt() + c["eps"]) + c["weight_decay"] * w
        w = w - lr * min(w.norm().item(), 10.0) / (u.norm() + c["eps"]) * u


def _lars(w: Tensor, c: Configuration) -> Steps:
    buffer = torch.zeros_like(w)
    while True:
        g, lr = yield w
        if w.ndim > 1:
            ratio = c["trust_coefficient"] * w.norm() / (g.norm() + c["weight_decay"] * w.norm())
            g = ratio * (g + c["weight_decay"] * w)
        buffer = c["momentum"] * buffer + (1 - c["dampening"]) * g
        if c["momentum"] > 0:
            g = g + c["momentum"] * buffer if c["nesterov"] else buffer
        w = w - lr * g


def _qhadam(*, is_decoupled: bool) -> Rule:
    def rule(w: Tensor, c: Configuration) -> Steps:
        m = v = torch.zeros_like(w)
        for t in count(1):
            g, lr = yield w
            if is_decoupled:
                w = w * (1 - lr * c["weight_decay"])
            else:
                g = g + c["weight_decay"] * w
            m = c["beta1"] * m + (1 - c["beta1"]) * g
            v = c["beta2"] * v + (1 - c["beta2"]) * g**2
            mean, square = m / (1 - c["beta1"] ** t), v / (1 - c["beta2"] ** t)
            direction = (1 - c["nu1"]) * g + c["nu1"] * mean
            w = w - lr * direction / (((1 - c["nu2"]) * g**2 + c["nu2"] * square).sqrt() + c["eps"])

    return rule


def _schedule_free(w: Tensor, c: Configuration) -> Steps:
    x, z, v = w, w, torch.zeros_like(w)
    total, most = 0.0, 0.0
    for t in count(1):
        g, lr = yield w
        lr = lr * (min(1.0, t / c["warmup_steps"]) if c["warmup_steps"] else 1.0)
        v = c["beta2"] * v + (1 - c["beta2"]) * g**2
        direction = g / ((v / (1 - c["beta2"] ** t)).sqrt() + c["eps"]) + c["weight_decay"] * w
        z = z - lr * direction
        most = max(most, lr)
        total += most**2
        x = x + most**2 / total * (z - x)
        w = c["beta1"] * x + (1 - c["beta1"]) * z


def _lookahead(rule: Rule) -> Rule:
    """Return the steps of Lookahead around an optimizer, whose rule is sent the weight to start from."""

    def around(w: Tensor, c: Configuration) -> Steps:
        steps, slow = rule(w, c), w
        next(steps)
        for t in count(1):
            g, lr = yield w
            w = steps.send((g, lr))
            if t % c["k"] == 0:
                slow = slow + c["alpha"] * (w - slow)
                # The rule reads its weight from its own last one.
                w = w.copy_(slow)

    return around


def _adopt(w: Tensor, c: Configuration) -> Steps:
    m = v = torch.zeros_like(w)
    for t in count(0):
        g, lr = yield w
        # pytorch_optimizer's first step decays as well.
        w = w * (1 - lr * c["weight_decay"])
        if t == 0:
            v = g**2
            continue
        ratio = (g / v.sqrt().clamp(min=c["eps"])).clamp(-(t**0.25), t**0.25)
        m = c["beta1"] * m + (1 - c["beta1"]) * ratio
        w = w - lr * m
        v = c["beta2"] * v + (1 - c["beta2"]) * g**2


def _ademamix(w: Tensor, c: Configuration) -> Steps:
    fast = slow = v = torch.zeros_like(w)
    for t in count(1):
        g, lr = yield w
        share = min(t / c["t_alpha_beta3"], 1.0)
        # The half-life of the slow mean grows linearly.
        lives = [math.log(0.5) / math.log(c[name]) for name in ("beta1", "beta3")]
        b3 = 0.5 ** (1 / ((1 - share) * lives[0] + share * lives[1]))
        fast = c["beta1"] * fast + (1 - c["beta1"]) * g
        slow = b3 * slow + (1 - b3) * g
        v = c["beta2"] * v + (1 - c["beta2"]) * g**2
        direction = fast / (1 - c["beta1"] ** t) + share * c["alpha"] * slow
        scale = (v / (1 - c["beta2"] ** t)).sqrt() + c["eps"]
        w = w - lr * (direction / scale + c["weight_decay"] * w)


def _mars(w: Tensor, c: Configuration) -> Steps:
    m = v = last = torch.zeros_like(w)
    b1, b2 = c["beta1"], c["beta2"]
    for t in count(1):
        g, lr = yield w
        corrected = g + c["gamma"] * b1 / (1 - b1) * (g - last)
        corrected = corrected / max(1.0, corrected.norm().item())
        last = g
        m = b1 * m + (1 - b1) * corrected
        v = b2 * v + (1 - b2) * corrected**2
        # The authors add eps after the bias correction, pytorch_optimizer before it.
        scale = (v.sqrt() + c["eps"]) / math.sqrt(1 - b2**t)
        w = w - lr * (m / (1 - b1**t) / scale + c["weight_decay"] * w)


def _cautious_adamw(w: Tensor, c: Configuration) -> Steps:
    m = v = torch.zeros_like(w)
    for t in count(1):
        g, lr = yield w
        m = c["beta1"] * m + (1 - c["beta1"]) * g
        v = c["beta2"] * v + (1 - c["beta2"]) * g**2
        u = m / (1 - c["beta1"] ** t) / ((v / (1 - c["beta2"] ** t)).sqrt() + c["eps"])
        moves = u * g > 0
        u = u * moves * (u.numel() / (moves.sum().item() + 1))
        w = w * (1 - lr * c["weight_decay"]) - lr * u


def _adam_mini(w: Tensor, c: Configuration) -> Steps:
    m = torch.zeros_like(w)
    v = torch.zeros(len(w), dtype=w.dtype)
    for t in count(1):
        g, lr = yield w
        w = w * (1 - lr * c["weight_decay"])
        m = c["beta1"] * m + (1 - c["beta1"]) * g
        v = c["beta2"] * v + (1 - c["beta2"]) * (g**2).reshape(len(g), -1).mean(dim=1)
        scale = (v / (1 - c["beta2"] ** t)).sqrt() + c["eps"]
        w = w - lr * m / (1 - c["beta1"] ** t) / scale.reshape(-1, *[1] * (w.ndim - 1))


def _prodigy(weights: list[Tensor], configurations: list[Configuration]) -> JointSteps:
    c = configurations[0]
    b1, b2, b3 = c["beta1"], c["beta2"], math.sqrt(c["beta2"])
    first, d, most, numerator = [w.clone() for w in weights], c["d0"], c["d0"], 0.0
    m, v, s = ([torch.zeros_like(w) for w in weights] for _ in range(3))
    for t in count(1):
        grads, lr = yield weights
        rate = d * lr * (math.sqrt(1 - b2**t) / (1 - b1**t) if c["bias_correction"] else 1.0)
        numerator *= b3
        for i, g in enumerate(grads):
            numerator += d / c["d0"] * rate * (g * (first[i] - weights[i])).sum().item()
            m[i] = b1 * m[i] + (1 - b1) * d * g
            v[i] = b2 * v[i] + (1 - b2) * (d * g) ** 2
            s[i] = b3 * s[i] + d / c["d0"] * rate * g
        size = sum(each.abs().sum().item() for each in s)
        if size == 0:
            continue
        estimate = c["d_coef"] * numerator / size
        if d == c["d0"]:
            d = max(d, estimate)
        most = max(most, estimate)
        d = most
        weights = [
            w * (1 - rate * own["weight_decay"]) - rate * m[i] / (v[i].sqrt() + d * own["eps"])
            for i, (w, own) in enumerate(zip(weights, configurations, strict=True))
        ]


def _along(w: Tensor, matrix: Tensor, dim: int) -> Tensor:
    """Return a tensor multiplied by a matrix along one dimension."""
    return torch.tensordot(w, matrix, dims=cast("Any", [[dim], [1]])).movedim(-1, dim)


def _square(w: Tensor, dim: int) -> Tensor:
    others = [i for i in range(w.ndim) if i != dim]
    return torch.tensordot(w, w, dims=cast("Any", [others, others]))


def _soap(w: Tensor, c: Configuration) -> Steps:
    dims = range(w.ndim) if w.ndim > 1 else range(0)
    b1, b2 = c["beta1"], c["beta2"]
    g, lr = yield w
    # As in the authors' code: other products round differently, which turns the basis of a null space.
    squares = [torch.zeros(n, n, dtype=w.dtype).lerp(_square(g, i), 1 - b2) for i, n in enumerate(w.shape)]
    squares = squares if w.ndim > 1 else []
    bases = [torch.linalg.eigh(each + 1e-30 * torch.eye(len(each))).eigenvectors.flip(1) for each in squares]

    def turned(each: Tensor, *, back: bool = False) -> Tensor:
        for i in dims:
            each = _along(each, bases[i] if back else bases[i].T, i)
        return each

    m = v = torch.zeros_like(w)
    for t in count(1):
        g, lr = yield w
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * turned(g) ** 2
        u = turned(turned(m) / (v.sqrt() + c["eps"]), back=True)
        w = w - lr * math.sqrt(1 - b2**t) / (1 - b1**t) * u
        w = w * (1 - lr * c["weight_decay"])
        squares = [each.lerp(_square(g, i), 1 - b2) for i, each in enumerate(squares)]
        if t % c["precondition_frequency"] == 0:
            for i in dims:
                order = (bases[i] * (squares[i] @ bases[i])).sum(dim=0).argsort(descending=True)
                v = v.index_select(i, order)
                bases[i] = torch.linalg.qr((squares[i] @ bases[i])[:, order].float()).Q.to(w.dtype)


def _shampoo(w: Tensor, c: Configuration) -> Steps:
    squares = [c["matrix_eps"] * torch.eye(n, dtype=w.dtype) for n in w.shape]
    roots = squares
    for t in count(1):
        g, lr = yield w
        u = g
        for i in range(w.ndim):
            squares[i] = squares[i] + _square(g, i)
        if t == 1 or t % c["preconditioning_compute_steps"] == 0:
            found = [torch.linalg.eigh(each) for each in squares]
            roots = [q @ torch.diag(values ** (-0.5 / w.ndim)) @ q.T for values, q in found]
        for i, root in enumerate(roots):
            u = _along(u, root, i)
        w = w * (1 - lr * c["weight_decay"]) - lr * u


def _spectral_bound(a: Tensor) -> Tensor:
    """Return Li's lower bound of a symmetric matrix's norm: a power iteration from its largest column."""
    a, size = a / a.abs().max(), a.abs().max()
    x = a[:, (a**2).sum(dim=0).argmax()] @ a
    return size * (a @ (x / x.norm())).norm()


def _psgd_kron(weights: list[Tensor], configurations: list[Configuration]) -> JointSteps:
    factors = [[torch.eye(n) if w.ndim > 1 and n > 1 else torch.ones(n) for n in w.shape] for w in weights]
    means = [torch.zeros_like(w) for w in weights]
    # The random vectors are drawn in the order of the parameter groups.
    order = sorted(range(len(weights)), key=lambda i: weights[i].ndim < 2)
    for t in count(1):
        grads, lr = yield weights
        weights = list(weights)
        for i in order:
            c, w, qs = configurations[i], weights[i], factors[i]
            means[i] = c["momentum"] * means[i] + (1 - c["momentum"]) * grads[i]
            mean = (means[i] / (1 - c["momentum"] ** t)).float()
            a, b = mean, torch.randn_like(mean)
            full = [q if q.ndim > 1 else torch.diag(q) for q in qs]
            for dim, q in enumerate(full):
                a, b = _along(a, q, dim), _along(b, torch.linalg.inv(q).T, dim)
            for dim, q in enumerate(qs):
                first, second = (_square(each, dim) for each in (a, b))
                if q.ndim > 1:
                    qs[dim] = q - 0.1 * torch.triu(first - second) / _spectral_bound(first + second) @ q
                else:
                    first, second = torch.diag(first), torch.diag(second)
                    qs[dim] = q - 0.1 * (first - second) / (first + second).abs().max() * q
            u = mean
            for dim, q in enumerate(q if q.ndim > 1 else torch.diag(q) for q in qs):
                u = _along(u, q.T @ q, dim)
            u = u * min(1.0, 1.1 / (u.square().mean().sqrt().item() + 1e-6))
            decay = c["weight_decay"] if w.ndim > 1 else 0.0
            weights[i] = w - lr * (u + decay * w)


def _products(
    grads: list[Tensor], configurations: list[Configuration], vectors: list[Tensor]
) -> list[Tensor]:
    weights = [c["parameter"] for c in configurations]
    return list(torch.autograd.grad(grads, weights, grad_outputs=vectors))


def _in_group_order(weights: list[Tensor], draw: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Return a random vector for each weight, drawn in the order of the parameter groups."""
    drawn = {i: draw(weights[i]) for i in sorted(range(len(weights)), key=lambda i: weights[i].ndim < 2)}
    return [drawn[i] for i in range(len(weights))]


def _sophia(weights: list[Tensor], configurations: list[Configuration]) -> JointSteps:
    c = configurations[0]
    m, h = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    for t in count(0):
        grads, lr = yield weights
        if t % c["update_period"] == 0:
            vectors = _in_group_order(weights, torch.randn_like)
            for i, product in enumerate(_products(grads, configurations, vectors)):
                h[i] = c["beta2"] * h[i] + (1 - c["beta2"]) * vectors[i] * product
        weights = list(weights)
        for i, g in enumerate(grads):
            m[i] = c["beta1"] * m[i] + (1 - c["beta1"]) * g.detach()
            u = (m[i] / h[i].clamp(min=1e-12)).clamp(-c["p"], c["p"])
            weights[i] = weights[i] * (1 - lr * configurations[i]["weight_decay"]) - lr * u


def _adahessian(weights: list[Tensor], configurations: list[Configuration]) -> JointSteps:
    c = configurations[0]
    m, v = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    for t in count(1):
        grads, lr = yield weights
        signs = _in_group_order(weights, lambda w: torch.randint_like(w, 0, 2) * 2 - 1)
        products = _products(grads, configurations, signs)
        weights = list(weights)
        for i, (g, product) in enumerate(zip(grads, products, strict=True)):
            size = product.abs()
            if size.ndim == 2:
                size = size.mean(dim=1, keepdim=True)
            elif size.ndim == 4:
                size = size.mean(dim=(2, 3), keepdim=True)
            m[i] = c["beta1"] * m[i] + (1 - c["beta1"]) * g.detach()
            v[i] = c["beta2"] * v[i] + (1 - c["beta2"]) * size**2
            scale = (v[i] / (1 - c["beta2"] ** t)).sqrt() ** c["hessian_power"] + c["eps"]
            u = m[i] / (1 - c["beta1"] ** t) / scale
            weights[i] = weights[i] * (1 - lr * configurations[i]["weight_decay"]) - lr * u


def _sam(rule: Rule) -> JointRule:
    """Return the steps of SAM around an optimizer: a gradient at the weights, then one further up."""

    def joint(weights: list[Tensor], configurations: list[Configuration]) -> JointSteps:
        steps = _each(rule)(weights, configurations)
        weights, c = next(steps), configurations[0]
        while True:
            grads, lr = yield weights
            sizes = [w.abs() if c["adaptive"] else torch.ones_like(w) for w in weights]
            norm = sum((s * g).square().sum() for s, g in zip(sizes, grads, strict=True)) ** 0.5
            up = [w + c["rho"] * s**2 * g / norm for w, s, g in zip(weights, sizes, grads, strict=True)]
            grads, lr = yield up
            weights = steps.send((grads, lr))

    return joint


def _scion(w: Tensor, c: Configuration) -> Steps:
    mean = torch.zeros_like(w)
    while True:
        g, lr = yield w
        mean = (1 - c["momentum"]) * mean + c["momentum"] * g
        if w.ndim < 2:
            u = mean / mean.square().mean().sqrt()
        else:
            u = (
                math.sqrt(w.shape[0] / w.shape[1])
                / math.prod(w.shape[2:])
                * _orthogonalised(mean.reshape(len(w), -1), 5).reshape(w.shape)
            )
        w = w * (1 - lr * c["weight_decay"]) - lr * u


_TORCH = "the algorithm of its page in torch's documentation"
_LOOKAHEAD = "Zhang et al. 2019, Algorithm 1, around the inner optimizer's oracle"
_SAM = "Foret et al. 2021, Algorithm 1, around the inner optimizer's oracle"
_FLOAT32 = 3e-6

ORACLES: dict[str, Oracle] = {
    "sgd": Oracle(_sgd, _TORCH),
    "sgd-nesterov": Oracle(_sgd, _TORCH),
    "adam": Oracle(_adam("adam"), "Kingma and Ba 2015, Algorithm 1"),
    "adamw": Oracle(_adam("adamw"), "Loshchilov and Hutter 2019, Algorithm 2"),
    "nadam": Oracle(_adam("nadam"), _TORCH, 1e-9),
    "nadamw": Oracle(_adam("nadamw"), _TORCH, 1e-9),
    "radam": Oracle(_adam("radam"), "Liu et al. 2020, Algorithm 2"),
    "adabelief": Oracle(_adam("adabelief"), "Zhuang et al. 2020, Algorithm 2"),
    "adamp": Oracle(_adamp, "Heo et al. 2021, Algorithm 2"),
    "sgdp": Oracle(_sgdp, "Heo et al. 2021, Algorithm 1"),
    "adagrad": Oracle(_adagrad, _TORCH),
    "adafactor": Oracle(_adafactor, "Shazeer and Stern 2018, Algorithms 4 and 5, with torch's rate"),
    "lion": Oracle(_lion, "Chen et al. 2023, Algorithm 2"),
    "lamb": Oracle(_lamb, "You et al. 2020, Algorithm 2, norms above 10 count as 10, no bias correction"),
    "lars": Oracle(_lars, "You, Gitman and Ginsburg 2017, equations 5 and 6"),
    "qhadam": Oracle(_qhadam(is_decoupled=False), "Ma and Yarats 2019, equation 15", _FLOAT32),
    "qhadamw": Oracle(_qhadam(is_decoupled=True), "Ma and Yarats 2019, equation 15", _FLOAT32),
    "schedule-free-adamw": Oracle(_schedule_free, "Defazio et al. 2024, Algorithm 1", 1e-9),
    "lookahead-adamw": Oracle(_lookahead(_adam("adamw")), _LOOKAHEAD),
    "lookahead-radam": Oracle(_lookahead(_adam("radam")), _LOOKAHEAD),
    "lookahead-adamp": Oracle(_lookahead(_adamp), _LOOKAHEAD),
    "lookahead-sgdp": Oracle(_lookahead(_sgdp), _LOOKAHEAD),
    "lookahead-sgd-nesterov": Oracle(_lookahead(_sgd), _LOOKAHEAD),
    "muon": Oracle(_muon, "Jordan et al. 2024; Liu et al. 2025, equation 4", 2e-4),
    "muon-convolutions": Oracle(_muon, "Jordan et al. 2024; Liu et al. 2025, equation 4", 3e-4),
    "adopt": Oracle(_adopt, "Taniguchi et al. 2024, Algorithm 2"),
    "ademamix": Oracle(_ademamix, "Pagliardini et al. 2025, Algorithm 1 and appendix"),
    "mars": Oracle(_mars, "Yuan et al. 2025, Algorithm 2, approximate variant", 1e-6),
    "prodigy": Oracle(
        None, "Mishchenko and Defazio 2024, Algorithm 4; the authors' code", 1e-6, joint=_prodigy
    ),
    "soap": Oracle(_soap, "Vyas et al. 2025, Algorithm 3; the authors' code", 1e-6),
    "shampoo": Oracle(_shampoo, "Gupta, Koren and Singer 2018, Algorithm 2", 1e-8),
    "psgd-kron": Oracle(
        None, "Pooladzandi and Li 2024; kron_torch 0.2, with the same random vectors", 1e-5, joint=_psgd_kron
    ),
    "scion": Oracle(_scion, "Pethick et al. 2025, Algorithm 2", 1e-2),
    "sophia": Oracle(None, "Liu et al. 2024, Algorithm 3, with lr * p for its lr", joint=_sophia),
    "adahessian": Oracle(None, "Yao et al. 2021, Algorithm 1", joint=_adahessian),
    "sam-sgd": Oracle(None, _SAM, 1e-6, joint=_sam(_sgd), passes=2),
    "sam-adamw": Oracle(None, _SAM, 1e-5, joint=_sam(_adam("adamw")), passes=2),
    "cautious-adamw": Oracle(_cautious_adamw, "Liang et al. 2024, Algorithm 2"),
    "adam-mini": Oracle(_adam_mini, "Zhang et al. 2025, Algorithm 1; the authors' code 1.1.1"),
}
"""The oracles of the catalogue, by the optimizer's name."""
