"""The token file: private, whole, and refused where it was not private."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankgate.clients.console_token import KeptToken, TokenError, TokenFile

KEPT = KeptToken("https://console.example", "https://issuer.example", "console-api", 2e9, "a.b.c")


def test_what_is_written_is_read_back_and_only_the_person_can_read_it(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "rankgate")
    file.write(KEPT)
    assert file.read() == KEPT
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in file.path.parent.iterdir()] == ["console-token"]


def test_a_second_login_replaces_the_first(tmp_path: Path) -> None:
    file = TokenFile(tmp_path)
    file.write(KEPT)
    file.write(KeptToken("https://other.example", "i", "a", 1.0, "d"))
    kept = file.read()
    assert kept is not None and kept.console == "https://other.example"


def test_nothing_is_kept_before_a_login_and_after_a_logout(tmp_path: Path) -> None:
    file = TokenFile(tmp_path)
    assert file.read() is None
    file.write(KEPT)
    assert (file.remove(), file.remove()) == (True, False)
    assert file.read() is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o666])
def test_a_file_that_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    file = TokenFile(tmp_path)
    file.write(KEPT)
    file.path.chmod(mode)
    with pytest.raises(TokenError, match="others"):
        file.read()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    other = TokenFile(tmp_path / "other")
    other.write(KEPT)
    file = TokenFile(tmp_path)
    file.path.symlink_to(other.path)
    with pytest.raises(TokenError):
        file.read()


@pytest.mark.parametrize("text", ["", "{}", "token", '{"console":1}'])
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, text: str) -> None:
    file = TokenFile(tmp_path)
    file.path.touch(0o600)
    file.path.write_text(text)
    with pytest.raises(TokenError, match="holds no token"):
        file.read()


def test_a_token_is_in_no_representation() -> None:
    assert "a.b.c" not in repr(KEPT)


def test_the_folder_is_that_of_the_xdg_specification(tmp_path: Path) -> None:
    home = Path("/home/ada")
    assert TokenFile.of({"XDG_STATE_HOME": "/state"}, home).path == Path("/state/rankgate/console-token")
    relative = TokenFile.of({"XDG_STATE_HOME": "state"}, home).path
    assert relative == TokenFile.of({}, home).path == Path("/home/ada/.local/state/rankgate/console-token")
