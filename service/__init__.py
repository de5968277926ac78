"""Hourglass: a REST inference service for autoencoders."""

__version__ = "0.1.0"
