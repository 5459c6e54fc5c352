"""The bytes of a page, and of what it loads."""

import re

import httpx
from trained_studies import Trained

from studies.store import Store

__all__: list[str] = []

GZIP = {"accept-encoding": "gzip"}
LOADED = re.compile(r'(?:src|href)="(/static/[^"]+)"')


def sent(http: httpx.Client, path: str) -> int:
    """Return the bytes of a compressed response."""
    answer = http.get(path, headers=GZIP)
    assert answer.headers["content-encoding"] == "gzip"
    return int(answer.headers["content-length"])


def test_what_a_page_with_charts_loads_takes_less_than_half_a_megabyte(
    http: httpx.Client, store: Store
) -> None:
    study = Trained(store).train().close().id
    page = http.get(f"/studies/{study}").text
    loaded = {name: sent(http, name) for name in LOADED.findall(page) if not name.endswith(".svg")}
    assert sum("plotly-basic" in name for name in loaded) == 1
    assert sum(loaded.values()) < 450_000
