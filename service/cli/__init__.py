"""The command `tangent`: one module per group of commands, assembled in `service.cli.app`."""

__all__: list[str] = []
