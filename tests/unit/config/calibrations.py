"""Calibrations, as several tests need them."""

import json
from pathlib import Path
from typing import Any, Final

FIGURES: Final = {"negative_log_likelihood": 1.0, "calibration_error": 0.1}


def point(limit: float, routed: int, wrong: int) -> dict[str, Any]:
    """A point of a curve; its bound is not looked at."""
    error = wrong / routed if 0 < routed >= wrong else None
    return {
        "min_confidence": limit,
        "routed": routed,
        "wrong": wrong,
        "error": error,
        "error_at_most": 1.0,
    }


CURVE: Final = [point(0.0, 1000, 200), point(0.4, 600, 40), point(0.8, 300, 3), point(1.0, 0, 0)]
"""0.4 keeps an error of 0.1, and 0.8 one of 0.05; none keeps 0.01."""


def calibration_fields(**fields: Any) -> dict[str, Any]:
    """The content of a calibration of the bundled model, with these fields."""
    return {
        "format": 1,
        "engine": "embedding",
        "model": None,
        "model_hash": None,
        "cases": 1200,
        "temperature": 1.0,
        "none_shift": 0.0,
        "before": FIGURES,
        "after": FIGURES,
        "min_margin": 0.0,
        "confidence": 0.9,
        "curve": CURVE,
        **fields,
    }


def write_calibration_file(directory: Path, **fields: Any) -> Path:
    """Writes a calibration, ``calibration.json``."""
    file = directory / "calibration.json"
    file.write_text(json.dumps(calibration_fields(**fields)), "utf-8")
    return file
