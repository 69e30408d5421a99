"""Where the packaged files of the program are found."""

from pathlib import Path

import pytest

from serve_app.packaged_files import PROJECT, find_packaged, home_of


def test_packaged_files_lie_beside_package_in_checkout() -> None:
    """In a checkout the packaged files lie beside the package."""
    assert (PROJECT / "configs/serve.yaml").is_file()
    assert (PROJECT / "serve_app/packaged_files.py").is_file()


def test_packaged_files_lie_inside_package_in_wheel(tmp_path: Path) -> None:
    """In a wheel the packaged files lie inside the package; a `configs` folder beside it belongs to
    another package.
    """
    package = tmp_path / "serve_app"
    (package / "configs").mkdir(parents=True)
    (tmp_path / "configs").mkdir()
    assert home_of(package) == package
    assert home_of(tmp_path / "other") == tmp_path


def test_find_packaged_prefers_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is searched in the working directory first; a path that does not exist is
    returned unchanged.
    """
    own = tmp_path / "own"
    own.mkdir()
    (own / "a.yaml").touch()
    (own / "b.yaml").touch()
    (tmp_path / "b.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert find_packaged(Path("a.yaml"), own) == own / "a.yaml"
    assert find_packaged(Path("b.yaml"), own) == Path("b.yaml")
    assert find_packaged(Path("c.yaml"), own) == Path("c.yaml")
    assert find_packaged(tmp_path / "a.yaml", own) == tmp_path / "a.yaml"
