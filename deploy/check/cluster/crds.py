"""Makes CustomResourceDefinitions of the vendors' schemas in deploy/check/crds, so that a real API server takes their resources.

usage: python crds.py RENDERED.yaml... > crds.json

The schemas come from a catalogue that keeps what a definition says of its fields and leaves out the definition around it. The
spelling of a kind comes from the manifests, so only kinds that one of them uses are made. What a catalogue's schema says and
an API server does not take ("structural schemas") is turned into what it does.
"""

import json
import sys
from pathlib import Path

import yaml

SCHEMAS = Path(__file__).parent.parent / "crds"
PLURALS = {
    "HiveMQPlatform": "hivemq-platforms",
    "KafkaRestClass": "kafkarestclasses",
    "MongoDBCommunity": "mongodbcommunity",
    "SchemaRegistry": "schemaregistries",
}
"""The names that are not the kind in lower case with an s."""
ANY = {"x-kubernetes-preserve-unknown-fields": True}
BRANCHES = ("anyOf", "oneOf", "allOf")
DESCRIBES = {"type", "description", "default", "nullable", "title", "additionalProperties", "format", *ANY}
"""What may not stand inside a branch: there, a structural schema only restricts."""


def structural(schema):
    """The schema as an API server takes it."""
    if not isinstance(schema, dict):
        return schema
    if "x-kubernetes-int-or-string" in schema or schema.get("format") == "int-or-string" or is_int_or_string(schema):
        return {"x-kubernetes-int-or-string": True}
    made = {key: value for key, value in schema.items() if key not in ("$schema", "additionalProperties")}
    # A schema that names its fields may not speak of others; one that closes an object says what pruning does anyway.
    extra = schema.get("additionalProperties")
    if "properties" in schema:
        made["properties"] = {name: structural(it) for name, it in schema["properties"].items() if isinstance(it, dict)}
    elif extra not in (None, False):
        made["additionalProperties"] = structural(extra)
    if "items" in schema:
        made["items"] = structural(schema["items"])
    for branch in BRANCHES:
        if branch in made:
            made[branch] = [restriction(it) for it in made[branch]]
    if "not" in made:
        made["not"] = restriction(made["not"])
    if isinstance(made.get("type"), list):
        made["type"], made["nullable"] = next(it for it in made["type"] if it != "null"), True
    if "type" not in made and not any(it in made for it in ANY):
        if "properties" in made or "additionalProperties" in made:
            made["type"] = "object"
        elif "items" in made:
            made["type"] = "array"
        else:
            made.update(ANY)
    if made.get("type") == "object" and not {"properties", "additionalProperties"} & made.keys():
        made.update(ANY)
    return made


def is_int_or_string(schema) -> bool:
    types = [it.get("type") for branch in ("anyOf", "oneOf") for it in schema.get(branch, []) if isinstance(it, dict)]
    return sorted(map(str, types)) == ["integer", "string"]


def restriction(schema):
    """A branch of anyOf and the like, without what only describes."""
    if not isinstance(schema, dict):
        return schema
    made = {key: value for key, value in schema.items() if key not in DESCRIBES}
    if "properties" in made:
        made["properties"] = {name: restriction(it) for name, it in made["properties"].items()}
    for key in ("items", "not"):
        if key in made:
            made[key] = restriction(made[key])
    for branch in BRANCHES:
        if branch in made:
            made[branch] = [restriction(it) for it in made[branch]]
    return made


def definition(group: str, version: str, kind: str, schema):
    singular = kind.lower()
    plural = PLURALS.get(kind) or f"{singular}s"
    body = structural(schema)
    # The API server has its own of these three.
    for key in ("apiVersion", "kind", "metadata"):
        body.get("properties", {}).pop(key, None)
    body.pop("required", None)
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": body}}
    if "status" in body.get("properties", {}):
        served["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": singular, "kind": kind, "listKind": f"{kind}List"},
            "versions": [served],
        },
    }


def main():
    kinds = set()
    for path in sys.argv[1:]:
        for document in yaml.safe_load_all(Path(path).read_text()):
            if document:
                group, _, version = document["apiVersion"].rpartition("/")
                kinds.add((group, version, document["kind"]))
    made = []
    for group, version, kind in sorted(kinds):
        path = SCHEMAS / group / f"{kind.lower()}_{version}.json"
        if path.exists():
            made.append(definition(group, version, kind, json.loads(path.read_text())))
    json.dump({"apiVersion": "v1", "kind": "List", "items": made}, sys.stdout)


if __name__ == "__main__":
    main()
