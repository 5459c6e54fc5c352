"""The command `tangent`, also available as `python -m service`."""

__all__ = ["app", "main"]

from service.cli.app import app, main

if __name__ == "__main__":
    main()
