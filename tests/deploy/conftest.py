"""What stands for the images: rankgate built as the Dockerfile builds it, and the real programs of the others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from deploy.containers import others_reach
from deploy.dockerfile import ROOT, context, read
from fakes.opa_server import binary as opa_binary

from rankgate.clients.embedded import envoy_binary, valkey_binary


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("deploy")


@pytest.fixture(scope="session")
def built() -> Iterator[Path]:
    """Yield the folder that stands for /opt/rankgate: the build steps of the Dockerfile, run in a clean folder.

    DEPLOY_BUILT names one that was built before, for work on these tests.
    """
    if ready := os.environ.get("DEPLOY_BUILT"):
        yield Path(ready)
        return
    with tempfile.TemporaryDirectory(prefix="rg-image-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        source, to = Path(folder, "src"), Path(folder, "rankgate")
        for file in context():
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, source / file)
        for step in read().builds:
            command = step.replace("/opt/rankgate", str(to))
            assert command != step, "a build step that builds nothing"
            environment = {
                name: value for name, value in os.environ.items() if not name.startswith(("RANKGATE_", "PYTHON"))
            }
            environment["PYTHON"] = str(_base_python())
            subprocess.run(["sh", "-c", command], cwd=source, check=True, env=environment, timeout=600)
        yield to


def _base_python() -> Path:
    """Return a Python that every user may run, where there is one: a container's user is not the tests' own."""
    own, system = Path(sys.executable).resolve(), Path("/usr/bin/python3")
    if others_reach(own) or not system.exists():
        return own
    usable = "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))"
    done = subprocess.run([system, "-c", usable], check=False, capture_output=True)
    return own if done.returncode else system


@pytest.fixture(scope="session")
def programs(built: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return what stands for the first word of each command line."""
    return {
        "/opt/rankgate/bin/python": built / "bin" / "python",
        "/usr/local/bin/envoy": envoy_binary(),
        "/opa": Path(opa_binary()),
        "valkey-server": valkey_binary(),
        "valkey-cli": _valkey_cli(built),
        **{f"/bin/{name}": Path(found) for name in ("prometheus", "promtool") if (found := shutil.which(name))},
    }


def _valkey_cli(built: Path) -> Path:
    """Return Debian's client, or a stand-in of one command where it is not installed."""
    if found := shutil.which("redis-cli"):
        return Path(found)
    script = built.parent / "valkey-cli"
    script.write_text(
        f"#!{built}/bin/python\nimport sys, redis\n"
        "assert sys.argv[1] == '-s' and sys.argv[3:] == ['ping'], sys.argv\n"
        "assert redis.Redis(unix_socket_path=sys.argv[2]).ping()\n"
    )
    script.chmod(0o755)
    return script
