"""What numbers of studies mean: pure functions that take arrays and return values; no SQL, no I/O, no pages."""

__all__: list[str] = []
