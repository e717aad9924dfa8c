"""The version of this installation."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["VERSION"]

try:
    VERSION = version("rankgate")
except PackageNotFoundError:
    VERSION = "0.0.0"
