"""`rankgate audit keys` makes a key once, hands over to the next, and never shows a private one."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from rankgate.audit.note import Verifier, signers
from rankgate.cli import root


def run(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(root, ["audit", "keys", *arguments])
    assert result.exit_code == code, result.output
    return result


def test_a_key_is_made_once_in_a_private_file(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    first = run("--directory", str(folder)).stdout
    assert run("--directory", str(folder)).stdout == first
    assert Verifier.parse(first.strip()).name == "default"
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [str(one.verifier) for one in signers(file.read_bytes(), "default")] == [first.strip()]


def test_the_next_key_comes_first_and_the_old_one_stays(tmp_path: Path) -> None:
    old = run("--directory", str(tmp_path)).stdout
    done = run("--directory", str(tmp_path), "--rotate")
    assert done.stdout != old
    assert done.stderr == f"before it: {old}"
    names = [f"{one.verifier}\n" for one in signers((tmp_path / "signing.pem").read_bytes(), "default")]
    assert names == [done.stdout, old]
    assert "PRIVATE" not in done.output


def test_a_key_is_named_after_its_deployment(tmp_path: Path) -> None:
    assert run("--directory", str(tmp_path), "--deployment", "prod").stdout.startswith("prod+")
    run("--directory", str(tmp_path), "--deployment", "a b", code=2)


def test_nothing_hands_over_where_there_is_no_key_and_what_is_none_is_kept(tmp_path: Path) -> None:
    assert "cannot be read" in run("--directory", str(tmp_path), "--rotate", code=1).output
    (tmp_path / "signing.pem").write_text("precious")
    run("--directory", str(tmp_path), code=1)
    run("--directory", str(tmp_path), "--rotate", code=1)
    assert (tmp_path / "signing.pem").read_text() == "precious"
