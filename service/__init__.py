"""How a study is asked for and looked at: REST, dashboard, command line and Python client.

No torch, no Ray, no SQL of its own.
"""

__all__: list[str] = []
