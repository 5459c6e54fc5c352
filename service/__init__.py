"""The REST API, dashboard, command line and Python client.

The package imports no torch and no Ray, and has no SQL of its own.
"""

__all__: list[str] = []
