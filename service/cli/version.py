"""`tangent version`."""

__all__ = ["installed_version", "version"]

import platform

from service.cli.output import AsJson, print_json, print_raw


def installed_version() -> str:
    """Return the version of the installed distribution, or `0+unknown` in a bare checkout."""
    from importlib import metadata

    try:
        return metadata.version("tangent-studies")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def version(*, as_json: AsJson = False) -> None:
    """Show the versions of Tangent and Python."""
    if as_json:
        print_json({"tangent": installed_version(), "python": platform.python_version()})
    else:
        print_raw(f"tangent {installed_version()} (Python {platform.python_version()})")
