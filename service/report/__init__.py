"""Reports of studies as JSON, Markdown, HTML and LaTeX, and bundles with everything to run a study again."""

__all__: list[str] = []
