"""Build hook: generate rankgate/pb from proto/, so that a plain or editable install has it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # `make proto` runs this file without hatchling
    BuildHookInterface = object  # type: ignore[assignment,misc]

ROOT = Path(__file__).parent


def generate(root: Path = ROOT) -> None:
    """Write rankgate/pb/*_pb2.py and *.pyi for every file in proto/."""
    source, target = root / "proto", root / "rankgate" / "pb"
    target.mkdir(parents=True, exist_ok=True)
    protos = sorted(path.name for path in source.glob("*.proto"))
    # google/protobuf comes with grpcio-tools, google/rpc with googleapis-common-protos.
    includes = [
        find_spec("grpc_tools").submodule_search_locations[0] + "/_proto",
        str(Path(find_spec("google.rpc").submodule_search_locations[0]).parents[1]),
    ]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{source}",
            *(f"-I{path}" for path in includes),
            f"--python_out={target}",
            f"--pyi_out={target}",
            *protos,
        ],
        check=True,
    )
    # protoc writes top-level imports between our files; they live in one package here.
    own = "|".join(Path(name).stem + "_pb2" for name in protos)
    for path in [*target.glob("*_pb2.py"), *target.glob("*_pb2.pyi")]:
        text = path.read_text()
        path.write_text(re.sub(rf"^import ({own}) as", r"from rankgate.pb import \1 as", text, flags=re.MULTILINE))
    (target / "__init__.py").write_text('"""Generated from proto/; see hatch_build.py."""\n')


class ProtoBuildHook(BuildHookInterface):
    """Runs before every wheel and editable build."""

    def initialize(self, version: str, build_data: dict[str, object]) -> None:  # noqa: ARG002 - the interface
        """Generate the messages into the source tree; the wheel takes them as artifacts."""
        generate(Path(self.root))


if __name__ == "__main__":
    generate()
