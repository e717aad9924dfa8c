from __future__ import annotations

from pathlib import Path

import pytest

from rankgate.clients.policy_files import read_policies
from rankgate.errors import SettingsError

ALLOW = "package a\n\nx := true\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_rego", ".rego").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_modules_tests_and_data_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, a_rego=ALLOW, lib__b_rego=ALLOW, data_json='{"k": 1}', other_json="not read")
    (tmp_path / "a_test.rego").write_text("package a_test\n")
    files = read_policies(tmp_path)
    assert [name for name, _ in files.modules] == ["a.rego", "lib/b.rego"]
    assert [name for name, _ in files.tests] == ["a_test.rego"]
    assert files.data == {"k": 1}


def test_data_is_merged_by_folder(tmp_path: Path) -> None:
    write(tmp_path, a_rego=ALLOW, data_json='{"t": {"x": 1}}', t__data_json='{"y": 2}', t__z__data_json='{"w": [3]}')
    assert read_policies(tmp_path).data == {"t": {"x": 1, "y": 2, "z": {"w": [3]}}}


def test_the_revision_covers_modules_and_data_and_not_tests(tmp_path: Path) -> None:
    write(tmp_path, a_rego=ALLOW, data_json="{}")
    first = read_policies(tmp_path).revision
    (tmp_path / "a_test.rego").write_text("package a_test\n")
    (tmp_path / "notes.txt").write_text("x")
    assert read_policies(tmp_path).revision == first
    seen = {first}
    for change in ({"data_json": '{"a": 1}'}, {"a_rego": ALLOW + "\n"}, {"b_rego": ALLOW}):
        write(tmp_path, **change)
        seen.add(read_policies(tmp_path).revision)
    assert len(seen) == 4


def test_a_mounted_config_map_is_read_once(tmp_path: Path) -> None:
    write(tmp_path / "..2026_11_25", a_rego=ALLOW)
    (tmp_path / "..data").symlink_to("..2026_11_25")
    (tmp_path / "a.rego").symlink_to("..data/a.rego")
    assert [name for name, _ in read_policies(tmp_path).modules] == ["a.rego"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("data.json", '{"a": 1, "a": 2}', r"data\.json: not strict JSON"),
        ("data.json", '{"a": NaN}', r"data\.json: not strict JSON"),
        ("data.json", "[" * 100_000, r"data\.json: not strict JSON"),
        ("data.json", "[1]", r"data\.json: must hold an object"),
        ("data.yaml", "a: 1", "convert the file"),
        ("sub/data.yml", "a: 1", "convert the file"),
        ("sub/data.json", '{"b": 2}', r"data\.sub\.b is already given"),
    ],
)
def test_data_that_can_be_read_two_ways_is_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    write(tmp_path, a_rego=ALLOW, data_json='{"sub": {"b": 1}}')
    (tmp_path / "sub").mkdir()
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError, match=says):
        read_policies(tmp_path)


def test_a_policy_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_bytes(b"package a\n# \xff\n")
    with pytest.raises(SettingsError, match=r"a\.rego: not UTF-8"):
        read_policies(tmp_path)


def test_a_folder_that_holds_no_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no \.rego file"):
        read_policies(tmp_path)
    with pytest.raises(SettingsError, match="does not exist"):
        read_policies(tmp_path / "nowhere")
