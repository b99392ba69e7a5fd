"""The version, which ``setup.py`` reads too."""

__all__ = ["__version__"]

__version__ = "0.1.0"
