"""Writes the files of rules that promtool reads: the alerts of rendered manifests, or a dashboard's queries as rules.

usage: python rules.py RENDERED.yaml > rules.yaml
       python rules.py --dashboard DASHBOARD.json > rules.yaml
"""

import json
import sys
from pathlib import Path

import yaml


def alerts(path: str):
    documents = [it for it in yaml.safe_load_all(Path(path).read_text()) if it]
    return [group for it in documents if it["kind"] == "PrometheusRule" for group in it["spec"]["groups"]]


def queries(path: str):
    """Each query under a name of its own, with what Grafana puts in place of its variables."""
    panels = json.loads(Path(path).read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    texts = [it.replace("$__rate_interval", "1m").replace("$namespace", "telltale") for it in found]
    return [{"name": "dashboard", "rules": [{"record": f"query:{index}", "expr": it} for index, it in enumerate(texts)]}]


if __name__ == "__main__":
    groups = queries(sys.argv[2]) if sys.argv[1] == "--dashboard" else alerts(sys.argv[1])
    yaml.safe_dump({"groups": groups}, sys.stdout, sort_keys=False, allow_unicode=True)
