"""The graph of the package from which the embedded engine takes its weights."""

from importlib.util import find_spec
from pathlib import Path

from serve_app.engines.embedding.engine import PACKAGE


def package_graph() -> Path:
    """Returns the package's own graph; ends the script if the package is not installed."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{PACKAGE} is not installed; run make install-test")
    return Path(spec.origin).parent / "model.onnx"
