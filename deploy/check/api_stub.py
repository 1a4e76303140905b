"""Answers as an API server with a few objects would, for `helm template --dry-run=server`: enough for `lookup`, no more.

usage: python api_stub.py KUBECONFIG SECRET=KEY,KEY...    writes a kubeconfig, serves until it is ended

It has the default service account of every namespace, and the Secrets given, in every namespace.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SECRETS = dict(it.split("=", 1) for it in sys.argv[2:])
APIS = {
    "v1": ["ServiceAccount", "Secret", "Service", "ConfigMap", "Pod"],
    "apps/v1": ["Deployment", "StatefulSet"],
    "batch/v1": ["Job", "CronJob"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
}


def plural(kind: str) -> str:
    return kind.lower().replace("policy", "policies") if kind.endswith("Policy") else f"{kind.lower()}s"


def resources(version: str):
    found = [{"name": plural(it), "kind": it, "namespaced": True, "verbs": ["get", "list"]} for it in APIS[version]]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": found}


def group(version: str):
    one = {"groupVersion": version, "version": version.partition("/")[2]}
    return {"name": version.partition("/")[0], "versions": [one], "preferredVersion": one}


DISCOVERY = {
    "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(it) for it in APIS if "/" in it]},
    **{f"/apis/{it}" if "/" in it else f"/api/{it}": resources(it) for it in APIS},
}


class Stub(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.partition("?")[0]
        found = DISCOVERY.get(path) or self.object(path.split("/"))
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        body = json.dumps(found or status).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @staticmethod
    def object(parts):
        if len(parts) != 7 or parts[1:4] != ["api", "v1", "namespaces"]:
            return None
        metadata = {"name": parts[6], "namespace": parts[4]}
        if parts[5:] == ["serviceaccounts", "default"]:
            return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
        if parts[5] == "secrets" and parts[6] in SECRETS:
            data = {key: "" for key in SECRETS[parts[6]].split(",")}
            return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
        return None

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
context = {"cluster": "stub", "user": "stub"}
Path(sys.argv[1]).write_text(
    json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "stub", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "stub", "user": {}}],
            "contexts": [{"name": "stub", "context": context}],
            "current-context": "stub",
        }
    )
)
server.serve_forever()
