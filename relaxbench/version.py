"""The version of relaxbench, for the package's metadata and for the manifest of a study."""

__version__ = "0.1.0"
