"""The version of relaxbench, for the package's metadata and for everything that a study writes down."""

__version__ = "0.1.0"
