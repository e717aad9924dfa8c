"""What is shipped rendered is what the template and the settings render today, and Envoy accepts it."""

import importlib.util
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from rankgate.cli import root
from rankgate.clients.embedded import envoy_binary

ROOT = Path(__file__).parents[1]
ADMIN = "/run/envoy/admin.sock"
COMPOSE = "deploy/compose/rankgate.toml"
OVERLAY = yaml.safe_load((ROOT / "deploy/compose/console.yaml").read_text())
# What is shipped, the settings it is rendered from, and the environment over them.
SHIPPED = {
    "deploy/compose/envoy.yaml": (COMPOSE, {}),
    "deploy/compose/console/envoy.yaml": (COMPOSE, OVERLAY["services"]["ext_authz"]["environment"]),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_envoy_configuration_is_current_and_valid(name):
    shipped, (settings, environment) = ROOT / name, SHIPPED[name]
    command = ["config", "envoy", str(ROOT / settings), "--admin-socket", ADMIN]
    result = CliRunner().invoke(root, command, env=environment)
    assert result.exit_code == 0, result.output
    assert shipped.read_text() == result.output, f"render it again, with {environment}: rankgate {' '.join(command)}"
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
