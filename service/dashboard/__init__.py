"""The dashboard: server-rendered HTML pages, with figures built in Python and nothing inline."""

__all__: list[str] = []
