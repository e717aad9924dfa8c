"""Tools that tests/run.sh or .ci/run installs for these tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["NEWEST", "OLDEST", "kustomize", "tool", "validate"]

# The releases of Kubernetes that the manifests are held to: a preStop that sleeps came with the first.
OLDEST, NEWEST = "1.30", "1.37"


def tool(name: str) -> str:
    """Return where a tool is; skips the test where it is not."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on PATH; tests/run.sh or .ci/run installs it")
    return found


def kustomize(folder: Path) -> str:
    """Return what `kustomize build` prints."""
    command = [tool("kustomize"), "build"] if shutil.which("kustomize") else [tool("kubectl"), "kustomize"]
    return subprocess.run([*command, folder], check=True, capture_output=True, text=True).stdout


def helm(chart: Path, *options: str | Path) -> str:
    """Return what `helm template` prints; raises CalledProcessError where the values are refused."""
    command = [tool("helm"), "template", "gate", chart, "--namespace", "search", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def validate(text: str, folder: Path, version: str) -> None:
    """Hold manifests to the schema of one release of Kubernetes; a member it does not know is a fault."""
    file = folder / f"{version}.yaml"
    file.write_text(text)
    done = subprocess.run(
        [tool("kubernetes-validate"), "--strict", "--kubernetes-version", version, file],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
