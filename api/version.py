"""Which release this is."""

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("arcadapt")
    except PackageNotFoundError:  # run from a checkout that nobody installed
        return "0+unknown"


VERSION = _installed()
