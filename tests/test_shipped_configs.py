"""What is shipped rendered is what the template and the settings render today, and Envoy accepts it."""

import importlib.util
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from rankgate.cli import root
from rankgate.clients.embedded import envoy_binary

ROOT = Path(__file__).parents[1]
SHIPPED = {"deploy/compose": "/run/envoy/admin.sock"}


@pytest.mark.parametrize(("folder", "admin"), SHIPPED.items())
def test_the_shipped_envoy_configuration_is_current_and_valid(folder, admin):
    settings, shipped = ROOT / folder / "rankgate.toml", ROOT / folder / "envoy.yaml"
    result = CliRunner().invoke(root, ["config", "envoy", str(settings), "--admin-socket", admin])
    assert result.exit_code == 0, result.output
    assert shipped.read_text() == result.output, f"render it again: {settings.read_text().splitlines()[1]}"
    subprocess.run([envoy_binary(), "--mode", "validate", "--config-path", shipped], check=True, capture_output=True)


SCRIPTS = [("deploy/examples/generate.py", "files"), ("deploy/helm/values_schema.py", "text")]


@pytest.mark.parametrize(("script", "call"), SCRIPTS)
def test_what_scripts_write_is_current(script, call):
    spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = getattr(module, call)()
    if isinstance(written, str):
        written = {module.TARGET: written}
    for name, text in written.items():
        assert (ROOT / Path(script).parent / name).read_text() == text, f"write {name} again: python {script}"
