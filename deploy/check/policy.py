"""Checks rendered manifests against the rules for what we run: Pod Security "restricted", and some of our own.

usage: python policy.py RENDERED.yaml...

Each container: non-root, read-only root file system, no capabilities, the runtime's seccomp profile, requests, a limit
of memory, an image with a version that is not "latest". Each pod: no token it does not need, nothing of the host, no
links to services in its environment. Secrets: only referred to, and mounted as files, never as environment variables.
"""

import sys
from pathlib import Path

import yaml

WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job", "Pod", "CronJob"}
SECRET_WORDS = ("password", "secret", "token", "apikey", "api_key", "private")
VOLUMES = {"configMap", "secret", "emptyDir", "projected", "downwardAPI", "persistentVolumeClaim", "csi", "ephemeral"}


def pod_of(document):
    spec = document["spec"]
    kind = document["kind"]
    if kind == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return spec if kind == "Pod" else spec["template"]["spec"]


def container_problems(container, pod):
    context = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
    name = container["name"]
    rules = {
        "runAsNonRoot is not true": context.get("runAsNonRoot") is True,
        "runAsUser is root": context.get("runAsUser") != 0,
        "allowPrivilegeEscalation is not false": context.get("allowPrivilegeEscalation") is False,
        "privileged": not context.get("privileged"),
        "readOnlyRootFilesystem is not true": context.get("readOnlyRootFilesystem") is True,
        "capabilities are not dropped": "ALL" in context.get("capabilities", {}).get("drop", []),
        "capabilities are added": not context.get("capabilities", {}).get("add"),
        "seccompProfile is not RuntimeDefault": context.get("seccompProfile", {}).get("type") == "RuntimeDefault",
        "no request of cpu": "cpu" in container.get("resources", {}).get("requests", {}),
        "no request of memory": "memory" in container.get("resources", {}).get("requests", {}),
        "no limit of memory": "memory" in container.get("resources", {}).get("limits", {}),
        "envFrom a secret": not any("secretRef" in it for it in container.get("envFrom", [])),
    }
    yield from (f"container {name}: {problem}" for problem, holds in rules.items() if not holds)
    image = container["image"]
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    if "@sha256:" not in image and tag in ("", "latest"):
        yield f"container {name}: image {image} has no version"
    for variable in container.get("env", []):
        if "secretKeyRef" in variable.get("valueFrom", {}):
            yield f"container {name}: {variable['name']} is a secret in the environment; mount it as a file"
        plain = any(it in variable["name"].lower() for it in SECRET_WORDS) and not variable["name"].endswith("_FILE")
        if plain and variable.get("value"):
            yield f"container {name}: {variable['name']} looks like a secret written down"


def pod_problems(pod):
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} is on"
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken is not false"
    if pod.get("enableServiceLinks") is not False:
        yield "enableServiceLinks is not false: variables named after services would reach our settings"
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            yield f"volume {volume['name']} is {kinds}"
        projected = volume.get("projected", {})
        secret = volume.get("secret") or (projected if any("secret" in it for it in projected.get("sources", [])) else None)
        if secret is not None and secret.get("defaultMode") not in (0o400, 0o440):
            yield f"volume {volume['name']}: defaultMode is not 0440 or 0400"
    for container in pod.get("initContainers", []) + pod["containers"]:
        yield from container_problems(container, pod)


def problems(document):
    kind = document["kind"]
    if kind == "Secret":
        yield "a secret written down; charts refer to existing ones"
    if kind in ("ClusterRole", "ClusterRoleBinding"):
        yield "rights for the whole cluster"
    if kind == "Role" and any("*" in rule.get("verbs", []) + rule.get("resources", []) for rule in document.get("rules", [])):
        yield "rights by wildcard"
    if kind in WORKLOADS:
        yield from pod_problems(pod_of(document))
    if kind == "ServiceAccount" and document.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken is not false"


def main() -> int:
    bad = 0
    for path in sys.argv[1:]:
        for document in yaml.safe_load_all(Path(path).read_text()):
            for problem in problems(document) if document else []:
                bad += 1
                print(f"{document['kind']} {document['metadata']['name']}: {problem}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
