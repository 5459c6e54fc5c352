"""The dispatcher's settings."""

import pytest

from workers.settings import DispatcherSettings

__all__: list[str] = []


@pytest.mark.parametrize("value", ["json", "JSON"])
def test_the_dispatcher_reads_the_log_format_as_the_service_does(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TANGENT_LOG_FORMAT", value)
    assert DispatcherSettings().log_format == "json"
