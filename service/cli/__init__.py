"""The command `tangent`: one file a subject; `service.cli.app` puts them together."""

__all__: list[str] = []
