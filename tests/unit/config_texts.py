"""Beginnings of configurations that many tests go on from."""

from typing import Final

VERSION: Final = "version: v0.4.0\n"
"""The one line that every configuration needs."""

ONE_MODEL: Final = VERSION + "model_providers:\n  - model: openai/gpt-4o\n"
"""A configuration with a single model."""
