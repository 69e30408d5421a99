"""Builds the wheel and installs it somewhere else, without any network."""

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.deploy.sites import ROOT

_PIP: Final = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
_SERVE: Final = "#!{python}\nimport sys\nfrom ray.serve.scripts import cli\nsys.exit(cli())\n"


@dataclass(frozen=True, slots=True)
class Installed:
    """A virtual environment with our wheel, which borrows everything else from this one."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin/python"

    def environment(self) -> dict[str, str]:
        """Without what would lead to the checkout."""
        return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(self, command: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        """Runs one of its commands in another folder."""
        return subprocess.run(
            [self.folder / "bin" / command[0], *command[1:]],
            cwd=cwd,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )


def build(folder: Path) -> Path:
    """The wheel of this checkout, as ``make wheel`` builds it, with the builder that is installed."""
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*_PIP, "wheel", *options, str(ROOT)], check=True)
    (wheel,) = folder.glob("fingerpost-*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Installed:
    """What depends on the wheel alone is in the environment's own folders."""
    venv.create(folder, with_pip=False, symlinks=True)
    installed = Installed(folder)
    into = ["--python", str(installed.python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*_PIP, *into], check=True)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (own / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    serve = folder / "bin/serve"
    serve.write_text(_SERVE.format(python=installed.python))
    serve.chmod(0o755)
    return installed
