"""A state folder is private, used by one gate at a time, and keeps its keys."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from rankgate.clients.state import StateDirectory, merged
from rankgate.errors import SettingsError
from rankgate.minting import MintingKeys
from rankgate.settings import load


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_and_its_key_are_private(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "a" / "b")
    with state.locked():
        key = state.defaults()["masking"]["key_file"]
        assert mode(state.path) == 0o700
        assert mode(key) == 0o600
        assert len(key.read_bytes()) == 32


def test_a_key_is_made_once(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    first = state.defaults()["masking"]["key_file"].read_bytes()
    assert state.defaults()["masking"]["key_file"].read_bytes() == first


def test_a_key_to_sign_with_is_made_once_and_is_private(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    files = [state.minting_defaults()["credentials"]["minted"]["key_file"] for _ in range(2)]
    assert files[0] == files[1]
    assert mode(files[0]) == 0o600
    assert MintingKeys.read(files[0].read_bytes()).public


def test_a_second_gate_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    with state.locked(), pytest.raises(SettingsError, match="another gate uses"), StateDirectory(tmp_path).locked():
        pass
    with state.locked():
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot use the state folder"), StateDirectory(tmp_path / "file").locked():
        pass


def test_the_defaults_make_a_complete_configuration(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    values = {
        "upstream": {"url": "http://127.0.0.1:1"},
        "issuers": [{"issuer": "https://i.example", "audiences": ["a"]}],
    }
    written = state.write_settings(merged(state.defaults(), values))
    assert written.read_text().startswith("# Written anew at every start")
    settings = load(written)
    assert settings.sockets.directory == tmp_path / "sockets"
    assert settings.audit.redis_url == f"unix://{tmp_path}/valkey.sock"


def test_later_layers_win_section_by_section_and_nothing_is_unset() -> None:
    low = {"listen": {"port": 1, "address": "a"}, "issuers": [1]}
    high = {"listen": {"port": 2, "address": None}, "issuers": [2], "policy": {}}
    assert merged(low, high) == {"listen": {"port": 2, "address": "a"}, "issuers": [2], "policy": {}}
    assert low["listen"] == {"port": 1, "address": "a"}
