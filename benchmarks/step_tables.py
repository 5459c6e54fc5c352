"""Tables of the step timings, for a terminal or in Markdown."""

__all__ = ["describe", "markdown", "show"]

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

_HEADER = ("side", "ms", "/ fused", "quartiles", "reference / it", "GB/s", "first step s")
_ADAM_BYTES, _SGD_BYTES = 28, 20


def describe(machine: Mapping[str, Any]) -> str:
    """Return one line about the machine."""
    versions = ", ".join(
        f"{name} {machine[name]}" for name in ("torch", "numpy", "numba", "triton", "pytorch_optimizer")
    )
    return f"{machine['device']}, {machine['cores']} CPU cores, Python {machine['python']}, {versions}"


def markdown(measured: Mapping[str, Any]) -> str:
    """Return one setting's title, its table and the skipped sides, as Markdown."""
    lines = [
        f"**{_title(measured)}**",
        "",
        "| " + " | ".join(_HEADER) + " |",
        "| --- |" + " ---: |" * (len(_HEADER) - 1),
    ]
    lines += ["| " + " | ".join(row) + " |" for row in _rows(measured)]
    return "\n".join([*lines, *(f"\n{line}" for line in _notes(measured))])


def show(measured: Mapping[str, Any]) -> None:
    """Print one setting, as a table if rich is installed and as Markdown otherwise."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(markdown(measured), flush=True)
        return
    table = Table(title=_title(measured), title_justify="left")
    for name in _HEADER:
        table.add_column(name, justify="left" if name == "side" else "right", no_wrap=True)
    for row in _rows(measured):
        table.add_row(*row)
    console = Console(width=max(120, Console().width))
    console.print(table)
    for line in _notes(measured):
        console.print(line, highlight=False, markup=False)


def _title(measured: Mapping[str, Any]) -> str:
    setting = measured["setting"]
    how = f"{setting['threads']} CPU thread{'s' * (setting['threads'] > 1)}, {setting['allocator']} allocator"
    share = (
        f"projected: {measured['projected_tensors']:.0%} of {measured['tensors']} tensors, "
        f"{measured['projected_elements']:.0%} of the elements"
    )
    flips = (
        f", {setting['flips']:.0%} of those with two dimensions or more flipping at every step"
        if setting["flips"]
        else ""
    )
    return (
        f"{setting['shapes']} ({measured['elements'] / 1e6:.3g} million) on "
        f"{setting['device']}, {how}; {share}{flips}"
    )


def _notes(measured: Mapping[str, Any]) -> list[str]:
    reached = measured["bandwidth_gb_per_s"]
    notes = [
        f"A large copy reaches {reached['copy']:.3g} GB/s, a large addition in place {reached['add']:.3g}."
    ]
    if not measured["projection_kept"]:
        notes.append(
            "The tensors that are projected changed while the time was taken: do not use these figures."
        )
    return notes + [f"Left out: {side} ({reason})." for side, reason in measured["left_out"].items()]


def _rows(measured: Mapping[str, Any]) -> list[tuple[str, ...]]:
    turns: Mapping[str, Sequence[float]] = measured["turns_ms"]
    rows: list[tuple[str, ...]] = []
    for side, spent in turns.items():
        of_sgd = "SGD" in side
        ms = statistics.median(spent)
        ratios = _ratios(spent, turns.get(f"torch {'SGD' if of_sgd else 'AdamW'} fused"))
        slower = _ratios(turns.get(f"reference {'SGDP' if of_sgd else 'AdamP'}"), spent)
        moved = measured["elements"] * (_SGD_BYTES if of_sgd else _ADAM_BYTES) / ms / 1e6
        rows.append(
            (
                side,
                f"{ms:.4g}",
                f"{statistics.median(ratios):.2f}" if ratios else "",
                "–".join(f"{quartile:.2f}" for quartile in _quartiles(ratios)) if ratios else "",
                f"{statistics.median(slower):.2f}" if slower else "",
                f"{moved:.3g}",
                f"{measured['first_s'][side]:.2f}",
            )
        )
    return rows


def _ratios(above: Sequence[float] | None, below: Sequence[float] | None) -> list[float]:
    """Return the ratios of two sides' turns in the same rounds, or None if a side was skipped."""
    return [a / b for a, b in zip(above, below, strict=True)] if above and below else []


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high
