"""Writes down what each container of rendered manifests is started with: arguments, environment, files.

usage: python environments.py PROFILE=RENDERED.yaml...

A test of the command line (crates/telltale/tests/chart.rs) starts each of our programs on exactly that with
`--check-config`, so that chart and programs cannot drift apart. Of Secrets only names and keys are known.
"""

import json
import sys
from pathlib import Path

import yaml

from policy import WORKLOADS, pod_of


def field(path: str, name: str) -> str:
    """What the cluster puts in place of a field of the pod, for its first pod."""
    values = {"metadata.name": f"{name}-0", "metadata.labels['apps.kubernetes.io/pod-index']": "0"}
    return values[path]


def files(pod, container, config_maps) -> dict:
    volumes = {it["name"]: it["projected"]["sources"] for it in pod.get("volumes", [])}
    found = {}
    for mount in container.get("volumeMounts", []):
        for source in volumes[mount["name"]]:
            if "secret" in source:
                for item in source["secret"]["items"]:
                    found[f"{mount['mountPath']}/{item['path']}"] = {"secret": source["secret"]["name"], "key": item["key"]}
            else:
                for key, text in config_maps[source["configMap"]["name"]].items():
                    found[f"{mount['mountPath']}/{key}"] = {"text": text}
    return found


def containers(profile: str, path: str):
    documents = [it for it in yaml.safe_load_all(Path(path).read_text()) if it]
    config_maps = {it["metadata"]["name"]: it["data"] for it in documents if it["kind"] == "ConfigMap"}
    for document in documents:
        if document["kind"] not in WORKLOADS:
            continue
        pod, name = pod_of(document), document["metadata"]["name"]
        for container in pod["containers"]:
            env = {}
            for it in container["env"]:
                env[it["name"]] = it["value"] if "value" in it else field(it["valueFrom"]["fieldRef"]["fieldPath"], name)
            yield {
                "profile": profile,
                "program": container["image"].rpartition("/")[2].partition("@")[0].partition(":")[0],
                "args": container.get("args", []),
                "env": env,
                "files": files(pod, container, config_maps),
            }


if __name__ == "__main__":
    found = [it for argument in sys.argv[1:] for it in containers(*argument.split("=", 1))]
    print(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True))
