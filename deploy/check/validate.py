"""Validates rendered manifests: core kinds against the schemas of Kubernetes, custom resources against deploy/check/crds.

usage: python validate.py RENDERED.yaml...

Strict: a field that the schema does not know is an error. What the schemas let pass and an API server does not, a
quantity such as "1 GB", is checked here.
"""

import json
import re
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

VERSIONS = ["1.33", "1.36"]
"""The oldest and the newest Kubernetes that the charts are for."""
CRDS = Path(__file__).parent / "crds"
QUANTITY = re.compile(r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")


def custom_schema(group: str, kind: str, version: str):
    path = CRDS / group / f"{kind.lower()}_{version}.json"
    return json.loads(path.read_text()) if path.exists() else None


def quantities(node, path=""):
    """Yields the resource quantities that no API server takes."""
    if isinstance(node, dict):
        for key, value in node.items():
            here = f"{path}.{key}"
            if key in ("requests", "limits") and isinstance(value, dict):
                for name, amount in value.items():
                    if not QUANTITY.match(str(amount)):
                        yield f"{here}.{name}: {amount!r} is no quantity"
            elif key == "sizeLimit" and not QUANTITY.match(str(value)):
                yield f"{here}: {value!r} is no quantity"
            else:
                yield from quantities(value, here)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from quantities(value, f"{path}[{index}]")


def closed(schema):
    """Makes a schema refuse the fields it does not name, as the API server warns of them."""
    if isinstance(schema, dict):
        if "properties" in schema and "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema["additionalProperties"] = False
        for value in schema.values():
            closed(value)
    elif isinstance(schema, list):
        for value in schema:
            closed(value)
    return schema


def problems(document) -> list[str]:
    group, _, version = document["apiVersion"].rpartition("/")
    found = list(quantities(document))
    schema = custom_schema(group, document["kind"], version)
    if schema is not None:
        # A schema of the catalogue says of apiVersion, kind and metadata only that they are there.
        body = {key: value for key, value in document.items() if key not in ("apiVersion", "kind", "metadata")}
        schema = {key: value for key, value in closed(schema).items() if key != "required"}
        for error in jsonschema.Draft7Validator(schema).iter_errors(body):
            found.append(f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}")
        return found
    if "." in group and not group.endswith(".k8s.io"):
        return [*found, f"there is no schema of {group} {version} in deploy/check/crds"]
    for kubernetes in VERSIONS:
        try:
            kubernetes_validate.validate(document, kubernetes, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"Kubernetes {kubernetes}: {'.'.join(map(str, error.path))}: {error.message[:300]}")
        except kubernetes_validate.SchemaNotFoundError:
            found.append(f"Kubernetes {kubernetes} has no {document['apiVersion']} {document['kind']}")
    return found


def main() -> int:
    bad = count = 0
    for path in sys.argv[1:]:
        for document in yaml.safe_load_all(Path(path).read_text()):
            if document is None:
                continue
            count += 1
            for problem in problems(document):
                bad += 1
                print(f"{document['kind']} {document['metadata']['name']}: {problem}")
    print(f"{count} documents, {bad} problems")
    return 1 if bad or not count else 0


if __name__ == "__main__":
    sys.exit(main())
