"""What a study's record says.

`analyse` turns it, by `studies.statistics`, into the views that page, REST, command line and report show.
"""

__all__: list[str] = []
