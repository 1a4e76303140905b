"""Breaks a good manifest in one way at a time and makes sure that policy.py and validate.py find each.

usage: python self_test.py RENDERED.yaml    with a StatefulSet, a ServiceMonitor and a ScaledObject in it
"""

import copy
import sys
from pathlib import Path

import policy
import validate
import yaml

DOCUMENTS = [it for it in yaml.safe_load_all(Path(sys.argv[1]).read_text()) if it]


def pod(document):
    return document["spec"]["template"]["spec"]


def container(document):
    return pod(document)["containers"][0]


def secret_in_environment(document):
    container(document)["env"].append({"name": "X", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}})


BREAKS = [
    # kind, how, what must be found
    ("StatefulSet", lambda it: pod(it)["securityContext"].update(runAsNonRoot=False), "runAsNonRoot is not true"),
    ("StatefulSet", lambda it: container(it)["securityContext"]["capabilities"].pop("drop"), "capabilities are not dropped"),
    ("StatefulSet", lambda it: container(it)["securityContext"].pop("readOnlyRootFilesystem"), "readOnlyRootFilesystem"),
    ("StatefulSet", lambda it: container(it).update(image="registry:5000/scorer"), "has no version"),
    ("StatefulSet", lambda it: container(it).update(image="scorer:latest"), "has no version"),
    ("StatefulSet", lambda it: container(it)["resources"].pop("limits"), "no limit of memory"),
    ("StatefulSet", secret_in_environment, "is a secret in the environment"),
    ("StatefulSet", lambda it: container(it)["env"].append({"name": "PASSWORD", "value": "b"}), "a secret written down"),
    ("StatefulSet", lambda it: pod(it)["volumes"][0]["projected"].pop("defaultMode"), "defaultMode"),
    ("StatefulSet", lambda it: pod(it).pop("automountServiceAccountToken"), "automountServiceAccountToken"),
    ("StatefulSet", lambda it: pod(it).update(hostNetwork=True), "hostNetwork is on"),
    ("StatefulSet", lambda it: it["spec"].update(replica=2), "'replica' was unexpected"),
    ("StatefulSet", lambda it: container(it).update(livenesProbe={}), "'livenesProbe' was unexpected"),
    ("StatefulSet", lambda it: container(it)["resources"]["limits"].update(memory="1 GB"), "is no quantity"),
    ("ServiceMonitor", lambda it: it["spec"]["endpoints"][0].update(intervall="1s"), "'intervall' was unexpected"),
    ("ServiceMonitor", lambda it: it["spec"].update(endpoints="x"), "is not of type 'array'"),
    ("ServiceMonitor", lambda it: it.update(apiVersion="example.org/v1"), "there is no schema of example.org"),
    ("ScaledObject", lambda it: it["spec"].update(minReplicas=1), "'minReplicas' was unexpected"),
]

missed = 0
for kind, damage, expected in BREAKS:
    broken = copy.deepcopy(next(it for it in DOCUMENTS if it["kind"] == kind))
    damage(broken)
    found = [*policy.problems(broken), *validate.problems(broken)]
    if not any(expected in it for it in found):
        missed += 1
        print(f"not found: {expected} ({kind}); found: {found}")
print(f"{len(BREAKS)} breaks, {missed} not found")
sys.exit(1 if missed else 0)
