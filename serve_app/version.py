"""Which version of the service this is."""

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """The version that is installed."""
    try:
        return version("tsfm-runner")
    except PackageNotFoundError:  # run from the sources, without being installed
        return "0"
