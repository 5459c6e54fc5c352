"""The page: server-rendered HTML, figures built in Python, nothing inline.

Reads the store and changes studies only by their four verbs.
"""

__all__: list[str] = []
