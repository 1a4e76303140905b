"""Derives schema.json, what the stand-in for Google's provider knows, from the published bindings of that provider.

usage: npm pack @cdktf/provider-google@16.12.1 && tar -xzf cdktf-provider-google-16.12.1.tgz
       python schema.py package/lib > schema.json

The bindings (provider 6.50, MPL-2.0) hold the name, the type and the nesting of every argument of every resource. They end
before version 7, so its differences in the resources we use are written down below. What they do not hold: which values are
allowed, and which arguments exclude each other; only Google's own provider checks these.
"""

import json
import re
import sys
from pathlib import Path

RESOURCES = """
artifact_registry_repository artifact_registry_repository_iam_member compute_network compute_router compute_router_nat
compute_subnetwork container_cluster container_node_pool project_iam_member project_service service_account
service_account_iam_member storage_bucket storage_managed_folder storage_managed_folder_iam_member
""".split()

PRIMITIVES = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}
COMPUTED_WHEN_LEFT_OUT = {"id", "project", "region", "zone", "location"}


def version_7(resources):
    """The differences of version 7 in these resources: its upgrade guide, "version_7_upgrade" in the provider's docs."""
    resources["google_storage_bucket"]["block_types"]["retention_policy"]["block"]["attributes"]["retention_period"]["type"] = "string"
    resources["google_compute_subnetwork"]["attributes"].pop("enable_flow_logs", None)
    # Deprecated in 7.1, so that nobody begins with it here.
    resources["google_container_cluster"]["block_types"].pop("enterprise_config", None)


def braces(text, start):
    """The text from the brace at `start` to the one that closes it."""
    depth = 0
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start : position + 1]
    raise ValueError("a brace is not closed")


def argument_type(kind, storage):
    """Terraform's type of an argument: "string", or ["list", "string"]."""
    if kind == "simple":
        return PRIMITIVES.get(storage, "dynamic")
    match = re.match(r"(string|number|boolean|any)(List|Map)?(Map)?$", storage)
    if not match or kind not in ("list", "set", "map"):
        return "dynamic"
    element = PRIMITIVES[match.group(1)]
    return [kind, ["list", element]] if match.group(3) else [kind, element]


def arguments(body):
    """The arguments that a function turns into configuration."""
    match = re.search(r"const attrs = \{", body)
    if not match:
        return {}
    pattern = r'\n\s+"?([a-z0-9_]+)"?: \{\s*value: (.*?),\s*isBlock: (true|false),\s*type: "(\w+)",\s*storageClassType: "(\w+)",'
    found = re.finditer(pattern, braces(body, match.end() - 1), re.S)
    return {it[1]: {"value": it[2], "block": it[3] == "true", "type": it[4], "storage": it[5]} for it in found}


def read(folder):
    """Code and declarations of a resource; large ones are split into several files."""
    code, declarations = "", ""
    for path in [folder / "index.js", *sorted(folder.glob("index-structs/**/*.js"))]:
        code += path.read_text()
    for path in [folder / "index.d.ts", *sorted(folder.glob("index-structs/**/*.d.ts"))]:
        declarations += path.read_text()
    return code, declarations


class Bindings:
    """What the bindings say of one resource."""

    def __init__(self, folder):
        self.code, declarations = read(folder)
        self.functions = {
            it[1]: arguments(braces(self.code, it.end() - 1))
            for it in re.finditer(r"function (\w+)ToHclTerraform\(struct\) \{", self.code)
        }
        self.required = {}
        for it in re.finditer(r"export interface (\w+)[^{]*\{", declarations):
            names = {}
            for doc, _, optional in re.findall(r"/\*\*(.*?)\*/\s*readonly (\w+)(\??):", braces(declarations, it.end() - 1), re.S):
                anchors = re.findall(r"#([a-z0-9_]+) ", doc)
                if anchors:
                    names[anchors[-1]] = not optional
            self.required[it[1]] = names
        self.computed = {
            it[1]: self.getters(braces(self.code, it.end() - 1))
            for it in re.finditer(r"class (\w+) extends cdktf\.\w+ \{", self.code)
        }

    @staticmethod
    def getters(body):
        types = {
            "String": "string", "Number": "number", "Boolean": "bool", "List": ["list", "string"],
            "NumberList": ["list", "number"], "StringMap": ["map", "string"], "NumberMap": ["map", "number"],
            "BooleanMap": ["map", "bool"],
        }  # fmt: skip
        found = {}
        for kind, name in re.findall(r"get(\w*?)Attribute\('([a-z0-9_]+)'\)", body):
            if kind in types:
                found[name] = types[kind]
        for name in re.findall(r'new \w+\(this, "([a-z0-9_]+)"', body):
            found.setdefault(name, "dynamic")
        return found

    def block(self, given, interface, owner):
        required = self.required.get(interface, {})
        attributes, blocks = {}, {}
        for name, it in given.items():
            needed = required.get(name, False)
            if not it["block"]:
                computed = name in COMPUTED_WHEN_LEFT_OUT and not needed
                kind = argument_type(it["type"], it["storage"])
                attributes[name] = {"type": kind, "required": needed, "optional": not needed, "computed": computed}
                continue
            function = re.search(r"(\w+)ToHclTerraform", it["value"])[1]
            inner = function[0].upper() + function[1:]
            nesting = "SINGLE" if it["type"] == "struct" else "SET" if it["type"] == "set" else "LIST"
            many = "listMapperHcl" in it["value"]
            blocks[name] = {
                "nesting": nesting,
                "min": int(needed and nesting != "SINGLE"),
                "max": 0 if many or nesting == "SINGLE" else 1,
                "block": self.block(self.functions[function], inner, f"{inner}OutputReference"),
            }
        for name, kind in self.computed.get(owner, {}).items():
            if name not in attributes and name not in blocks and name != "id":
                attributes[name] = {"type": kind, "required": False, "optional": False, "computed": True}
        return {"attributes": attributes, "block_types": blocks}

    def whole(self, interface, owner):
        start = self.code.rindex("synthesizeHclAttributes() {") + len("synthesizeHclAttributes() ")
        return self.block(arguments(braces(self.code, start)), interface, owner)


def typed(block):
    """A dynamic attribute makes a dynamic tuple of the whole list it is in: give it a type."""
    for it in block["attributes"].values():
        if it["type"] == "dynamic":
            it["type"] = ["list", ["map", "string"]] if it["computed"] and not it["optional"] else "string"
    for it in block["block_types"].values():
        typed(it["block"])


def main():
    library = Path(sys.argv[1])
    resources = {}
    for name in RESOURCES:
        bindings = Bindings(library / name.replace("_", "-"))
        owner = re.search(r"class (\w+) extends cdktf\.TerraformResource \{", bindings.code)[1]
        resources[f"google_{name}"] = bindings.whole(f"{owner}Config", owner)
    version_7(resources)
    for it in resources.values():
        typed(it)
    provider = Bindings(library / "provider").whole("GoogleProviderConfig", "GoogleProvider")
    provider["attributes"].pop("alias", None)
    for it in provider["attributes"].values():
        it["computed"] = False
    typed(provider)
    # A line for each resource: a change of version shows which ones it touched.
    lines = ",\n".join(f"{json.dumps(name)}:{json.dumps(it, sort_keys=True, separators=(',', ':'))}" for name, it in sorted(resources.items()))
    print(f'{{"provider":{json.dumps(provider, sort_keys=True, separators=(",", ":"))},\n"resources":{{\n{lines}\n}}}}')


if __name__ == "__main__":
    main()
