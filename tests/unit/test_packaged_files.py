"""Where the files are that the program comes with."""

from pathlib import Path

import pytest

from serve_app.packaged_files import PROJECT, find_packaged, home_of


def test_a_checkout_has_them_beside_the_package() -> None:
    """As the one that is tested has."""
    assert (PROJECT / "configs/serve.yaml").is_file()
    assert (PROJECT / "serve_app/packaged_files.py").is_file()


def test_a_wheel_has_them_inside_the_package(tmp_path: Path) -> None:
    """Whatever lies beside it: that is other packages'."""
    package = tmp_path / "serve_app"
    (package / "configs").mkdir(parents=True)
    (tmp_path / "configs").mkdir()
    assert home_of(package) == package
    assert home_of(tmp_path / "other") == tmp_path


def test_a_file_here_goes_before_one_of_the_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is looked for here first; one that leads nowhere stays as it is."""
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
