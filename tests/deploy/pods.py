"""The pods of rendered manifests as containers to start, in the order and with the probes that a kubelet uses."""

from __future__ import annotations

import base64
import itertools
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from deploy.containers import Container, World
from deploy.dockerfile import read

__all__ = ["Given", "Pod", "documents", "find", "pod_spec"]

Manifest = dict[str, Any]
UID = "0d9f4c52-7a3e-4d8e-9a56-2f5c1f3f7a10"


@dataclass(frozen=True, slots=True)
class Given:
    """What a cluster holds that no manifest does: contents by name and key, and tokens by audience."""

    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)


def documents(text: str) -> list[Manifest]:
    """Return the manifests of a rendering."""
    return [document for document in yaml.safe_load_all(text) if document]


def find(manifests: list[Manifest], kind: str, name: str | None = None) -> Manifest:
    """Return the one manifest of a kind, and of a name where one is given."""
    found = [m for m in manifests if m["kind"] == kind and name in {None, m["metadata"]["name"]}]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def pod_spec(manifest: Manifest) -> Manifest:
    """Return the pod that a Deployment or Job makes, or a Pod itself."""
    spec = manifest["spec"]
    found = spec if manifest["kind"] == "Pod" else spec["template"]["spec"]
    assert isinstance(found, dict)
    return found


class Pod:
    """One pod in a World. `start` does what a kubelet does, until every container is ready."""

    def __init__(self, manifest: Manifest, manifests: list[Manifest], given: Given, world: World) -> None:
        self.spec = pod_spec(manifest)
        self._manifests = manifests
        self._given = given
        self._world = world
        ports = {port["containerPort"] for container in self.every() for port in container.get("ports", [])}
        for first in sorted(ports - {port + 1 for port in ports} - world.ports.keys()):
            world.following(first, next(step for step in itertools.count(1) if first + step not in ports))

    def every(self) -> Iterator[Manifest]:
        """Yield every container in the order of start."""
        yield from self.spec.get("initContainers", [])
        yield from self.spec["containers"]

    @property
    def sidecars(self) -> list[str]:
        """Return the names of the native sidecars, in the order of start."""
        return [c["name"] for c in self.spec.get("initContainers", []) if c.get("restartPolicy") == "Always"]

    def start(self) -> None:
        """Run what runs to its end, start the others, and wait for their probes."""
        for container in self.spec.get("initContainers", []):
            if container.get("restartPolicy") == "Always":
                self._start(container)
            else:
                self.complete(container)
        for container in self.spec["containers"]:
            self._start(container)
        for container in self.every():
            if "readinessProbe" in container:
                self._until(container, "readinessProbe")
            if "livenessProbe" in container:
                assert self.probe(container, "livenessProbe"), container["name"]

    def complete(self, container: Manifest) -> str:
        """Run a container that ends, and return what it printed."""
        built = self._container(container)
        done = self._world.run(built, built.command)
        assert done.returncode == 0, f"{container['name']}: {done.stdout.decode()}{done.stderr.decode()}"
        return done.stdout.decode()

    def stop(self) -> dict[str, int]:
        """End every container in the kubelet's order; return the exit codes."""
        order = [container["name"] for container in self.spec["containers"]] + self.sidecars[::-1]
        return {name: self._world.stop(name) for name in order}

    def probe(self, container: Manifest, kind: str) -> bool:
        """Ask a probe once."""
        if "exec" in container[kind]:
            done = self._world.run(self._container(container), container[kind]["exec"]["command"])
            return done.returncode == 0
        ask = container[kind]["httpGet"]
        scheme = ask.get("scheme", "HTTP").lower()
        url = f"{scheme}://127.0.0.1:{self._world.port(self._number(container, ask['port']))}{ask['path']}"
        # The kubelet verifies no certificate.
        context = ssl._create_unverified_context() if scheme == "https" else None
        try:
            with urllib.request.urlopen(url, timeout=5, context=context):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def _start(self, container: Manifest) -> None:
        kind = "startupProbe" if "startupProbe" in container else "readinessProbe"
        assert not self.probe(container, kind), f"{container['name']} has a probe that cannot fail"
        self._world.start(self._container(container))
        self._until(container, kind)

    def _until(self, container: Manifest, kind: str) -> None:
        self._world.wait(self._container(container), lambda: self.probe(container, kind))

    def _number(self, container: Manifest, port: int | str) -> int:
        named = {entry["name"]: entry["containerPort"] for entry in container.get("ports", []) if "name" in entry}
        return port if isinstance(port, int) else int(named[port])

    def container(self, name: str) -> Container:
        """Return a container by its name."""
        (found,) = (container for container in self.every() if container["name"] == name)
        return self._container(found)

    def _container(self, container: Manifest) -> Container:
        image = read()
        own = re.fullmatch(r"(.*/)?rankgate[:@].*", container["image"]) is not None
        command = container.get("command") or (list(image.entrypoint) if own else None)
        assert command, f"{container['name']}: nothing says what its image runs"
        environment = dict(image.environment) if own else {}
        for entry in container.get("env", []):
            environment[entry["name"]] = entry["value"] if "value" in entry else self._field(entry["valueFrom"])
        context = container["securityContext"]
        return Container(
            container["name"],
            (*command, *container.get("args", [])),
            environment,
            {**self._elsewhere(), **self._mounts(container)},
            context["runAsUser"],
            context["runAsGroup"],
        )

    def _mounts(self, container: Manifest) -> dict[str, Path]:
        mounts = container.get("volumeMounts", [])
        return {mount["mountPath"]: self._mount(container["name"], mount) for mount in mounts}

    def _elsewhere(self) -> dict[str, Path]:
        """Return what the others mount: a container may write a path down that only another one has."""
        return {path: place for container in self.every() for path, place in self._mounts(container).items()}

    def _field(self, source: Manifest) -> str:
        assert source == {"fieldRef": {"fieldPath": "metadata.uid"}}, source
        return UID

    def _mount(self, container: str, mount: Manifest) -> Path:
        (volume,) = (volume for volume in self.spec["volumes"] if volume["name"] == mount["name"])
        if "emptyDir" in volume or "persistentVolumeClaim" in volume:
            return self._world.place(f"volume-{mount['name']}")
        folder = f"files-{container}/{mount['name']}"
        if not (self._world.folder / folder).exists():
            self._fill(folder, self._files(volume))
        # A subPath is bound to the file itself, and never sees another version.
        return self._world.folder / folder / (f"..1/{mount['subPath']}" if "subPath" in mount else "")

    def _fill(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Lay a mounted ConfigMap or Secret out as the kubelet does: names lead to a version by way of `..data`."""
        for name, content in files.items():
            self._world.write(f"{folder}/..1/{name}", content)
            (self._world.folder / folder / name).symlink_to(f"..data/{name}")
        (self._world.folder / folder / "..data").symlink_to("..1")

    def replace(self, volume: str, files: Mapping[str, bytes]) -> None:
        """Give the files of a mounted volume new contents, all at once, as the kubelet does."""
        for folder in self._world.folder.glob(f"files-*/{volume}"):
            (folder / "..2").mkdir()
            for name, content in files.items():
                (folder / "..2" / name).write_bytes(content)
            (folder / "..data_tmp").symlink_to("..2")
            (folder / "..data_tmp").rename(folder / "..data")

    def _files(self, volume: Manifest) -> dict[str, bytes]:
        if "configMap" in volume:
            return self._picked(self._config_map(volume["configMap"]["name"]), volume["configMap"])
        if "secret" in volume:
            assert volume["secret"]["defaultMode"] == 0o444, "readable for the user of the container"
            return self._picked(self._secret(volume["secret"]["secretName"]), volume["secret"])
        (source,) = volume["projected"]["sources"]
        assert volume["projected"]["defaultMode"] == 0o444, "readable for the user of the container"
        token = source["serviceAccountToken"]
        return {token["path"]: self._given.tokens[token["audience"]].encode()}

    def _picked(self, data: Mapping[str, bytes], source: Manifest) -> dict[str, bytes]:
        items = source.get("items", [{"key": key, "path": key} for key in data])
        return {item["path"]: data[item["key"]] for item in items}

    def _config_map(self, name: str) -> dict[str, bytes]:
        if name in self._given.config_maps:
            return {key: value.encode() for key, value in self._given.config_maps[name].items()}
        return {key: value.encode() for key, value in find(self._manifests, "ConfigMap", name)["data"].items()}

    def _secret(self, name: str) -> Mapping[str, bytes]:
        if name in self._given.secrets:
            return self._given.secrets[name]
        data = find(self._manifests, "Secret", name)["data"]
        return {key: base64.b64decode(value) for key, value in data.items()}
