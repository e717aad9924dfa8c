"""What has to hold of every pod with a gate in it."""

from __future__ import annotations

import re

from deploy.pods import Manifest

from rankgate.settings import Settings

__all__ = ["admitted", "grace_is_enough", "order_is_right", "sockets_are_private"]

VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
FILTERS = {"ext-authz", "ext-proc"}


def admitted(pod: Manifest) -> None:
    """Hold a pod to the restricted Pod Security Standard, and to a read-only root and limits beyond it."""
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    for volume in pod.get("volumes", []):
        assert set(volume) - {"name"} <= VOLUMES, volume["name"]
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        name, context = container["name"], container["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["runAsGroup"] > 0, name
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert "memory" in container["resources"]["limits"], name
        assert "cpu" not in container["resources"]["limits"], f"{name} would be slowed, not bounded"


def order_is_right(pod: Manifest, sidecars: list[str]) -> None:
    """Hold a pod to the start order: sidecars with probes, Envoy last, then the reranker, which waits at its end."""
    found = [c for c in pod["initContainers"] if c.get("restartPolicy") == "Always"]
    assert [container["name"] for container in found] == sidecars
    assert sidecars[-1] == "envoy"
    for container in found:
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert kind in container, f"{container['name']} has no {kind}"
    (reranker,) = pod["containers"]
    assert reranker["lifecycle"]["preStop"]["sleep"]["seconds"] >= 10
    assert "readinessProbe" in reranker


def grace_is_enough(pod: Manifest, settings: Settings) -> None:
    """Hold a pod to the time that its end may take."""
    (reranker,) = pod["containers"]
    waits = reranker["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= waits + settings.deadline_s + 20


def sockets_are_private(pod: Manifest) -> None:
    """Hold a pod to who may reach what: sockets, keys, and Envoy's admin interface."""
    every = [*pod["initContainers"], *pod["containers"]]
    holders: dict[str, set[str]] = {}
    for container in every:
        for mount in container.get("volumeMounts", []):
            # A filter may have several processes, numbered from the second on.
            holders.setdefault(mount["name"], set()).add(re.sub(r"-\d+$", "", container["name"]))
    assert holders["rankgate-sockets"] == FILTERS | {"envoy"}
    assert holders["rankgate-admin"] == {"envoy"}
    assert holders["rankgate-masking"] == FILTERS
    assert holders.get("rankgate-upstream", {"ext-authz"}) == {"ext-authz"}
    users = {container["name"]: container["securityContext"]["runAsUser"] for container in every}
    assert users["ext-authz"] == users["ext-proc"]
    assert len({users["envoy"], users["ext-authz"], users[pod["containers"][0]["name"]]}) == 3
    (volume,) = (volume for volume in pod["volumes"] if volume["name"] == "rankgate-sockets")
    assert volume["emptyDir"]["medium"] == "Memory"
