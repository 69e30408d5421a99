"""Builds the wheel and installs it in another folder, without network access."""

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
    """A virtual environment with the wheel, which uses all other packages of this one."""

    folder: Path

    @property
    def python(self) -> Path:
        """The path of its interpreter."""
        return self.folder / "bin/python"

    def environment(self) -> dict[str, str]:
        """The environment variables without PYTHONPATH, which would lead to the checkout."""
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
    """Builds the wheel of this checkout like ``make wheel``, with the installed build backend."""
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*_PIP, "wheel", *options, str(ROOT)], check=True)
    (wheel,) = folder.glob("fingerpost-*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Installed:
    """Installs the wheel in a new environment; other packages come from this one."""
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
