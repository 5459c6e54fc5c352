"""The analysis of studies.

`analyse` turns the record of a study into the views that the page, REST, the command line and the report
show. Its figures come from `studies.statistics`.
"""

__all__: list[str] = []
