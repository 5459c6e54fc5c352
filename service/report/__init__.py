"""A study in a form to hand on.

Reports as JSON, Markdown, HTML and LaTeX, and the bundle that holds everything needed to run it again.
"""

__all__: list[str] = []
