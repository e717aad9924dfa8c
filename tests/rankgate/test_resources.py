"""The shipped files are found in a source tree and in an installed wheel alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankgate import resources

ROOT = Path(__file__).parent.parent.parent


def test_a_source_tree_holds_them_at_its_top() -> None:
    assert resources.envoy_template() == (ROOT / "envoy" / "envoy.yaml.j2").read_text("utf-8")
    assert resources.policies() == ROOT / "policies"


def test_an_installed_wheel_holds_them_below_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "rankgate"
    (package / "data" / "policies").mkdir(parents=True)
    (package / "data" / "envoy.yaml.j2").write_text("admin: {}\n")
    monkeypatch.setattr(resources, "_PACKAGE", package)
    assert resources.envoy_template() == "admin: {}\n"
    assert resources.policies() == package / "data" / "policies"


def test_a_broken_installation_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "rankgate")
    for find in (resources.envoy_template, resources.policies):
        with pytest.raises(FileNotFoundError, match="install it again"):
            find()
