#!/usr/bin/env python3
"""A stand-in for Google's Terraform provider: knows its schema, contacts nobody, invents what Google would answer.

terraform ─gRPC, plugin protocol 6─▶ this, which plans, applies, reads and destroys in memory of the state file alone

It checks names and types of arguments, required ones, nesting, references and outputs. It does not check allowed values,
conflicts between arguments, or quotas: that needs the real provider. schema.json comes from schema.py.
"""

import base64
import json
import os
import sys
import tempfile
from concurrent import futures
from pathlib import Path

import grpc
import msgpack
from tf.gen import grpc_controller_pb2_grpc as controller
from tf.gen import grpc_stdio_pb2_grpc as stdio
from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as plugin
from tf.runner import _self_signed_cert

SCHEMA = json.loads((Path(__file__).parent / "schema.json").read_text())
UNKNOWN = msgpack.ExtType(0, b"\0")
REPLACING = {"name", "location", "region", "project", "network", "account_id", "repository_id", "zone"}
"""Arguments that Google cannot change in place."""


def block(it):
    return pb.Schema.Block(
        version=0,
        attributes=[
            pb.Schema.Attribute(
                name=name,
                type=json.dumps(a["type"]).encode(),
                required=a["required"],
                optional=a["optional"],
                computed=a["computed"],
            )
            for name, a in sorted(it["attributes"].items())
        ],
        block_types=[
            pb.Schema.NestedBlock(
                type_name=name,
                block=block(b["block"]),
                nesting=getattr(pb.Schema.NestedBlock, b["nesting"]),
                min_items=b["min"],
                max_items=b["max"],
            )
            for name, b in sorted(it["block_types"].items())
        ],
    )


def unpack(value):
    if value.msgpack:
        return msgpack.unpackb(value.msgpack, raw=False, strict_map_key=False)
    return json.loads(value.json or "null")


def pack(value):
    return pb.DynamicValue(msgpack=msgpack.packb(value, use_bin_type=True))


def each(schema, value, change):
    """Applies change(name, attribute, value) to every attribute of a block's value."""
    if value is None or isinstance(value, msgpack.ExtType):
        return value
    out = dict(value)
    for name, attribute in schema["attributes"].items():
        out[name] = change(name, attribute, value.get(name))
    for name, nested in schema["block_types"].items():
        inner = value.get(name)
        if inner is None or isinstance(inner, msgpack.ExtType):
            continue
        single = nested["nesting"] == "SINGLE"
        out[name] = each(nested["block"], inner, change) if single else [each(nested["block"], it, change) for it in inner]
    return out


def left_open(name, attribute, value):
    return UNKNOWN if value is None and (attribute["computed"] or name == "id") else value


def invented(identity):
    """What Google would have answered, made of the resource's identity."""

    def answer(name, attribute, value):
        if not isinstance(value, msgpack.ExtType):
            return value
        kind = attribute["type"]
        account = f"{identity.rsplit('/', 1)[-1]}@stub.iam.gserviceaccount.com"
        known = {"id": identity, "email": account, "member": f"serviceAccount:{account}"}
        if name in known:
            return known[name]
        if isinstance(kind, list):
            return [] if kind[0] in ("list", "set") else {}
        return {"string": f"stub-{name}", "number": 0, "bool": False}.get(kind)

    return answer


class Provider(plugin.ProviderServicer):
    """The calls that terraform makes of a provider."""

    def GetProviderSchema(self, request, context):
        return pb.GetProviderSchema.Response(
            provider=pb.Schema(version=0, block=block(SCHEMA["provider"])),
            resource_schemas={name: pb.Schema(version=0, block=block(it)) for name, it in SCHEMA["resources"].items()},
            server_capabilities=pb.ServerCapabilities(get_provider_schema_optional=True),
        )

    def GetMetadata(self, request, context):
        names = [pb.GetMetadata.ResourceMetadata(type_name=it) for it in SCHEMA["resources"]]
        return pb.GetMetadata.Response(resources=names)

    def GetFunctions(self, request, context):
        return pb.GetFunctions.Response()

    def ValidateProviderConfig(self, request, context):
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request, context):
        return pb.ValidateResourceConfig.Response()

    def ConfigureProvider(self, request, context):
        return pb.ConfigureProvider.Response()

    def UpgradeResourceState(self, request, context):
        return pb.UpgradeResourceState.Response(upgraded_state=pb.DynamicValue(json=request.raw_state.json))

    def ReadResource(self, request, context):
        return pb.ReadResource.Response(new_state=request.current_state, private=request.private)

    def PlanResourceChange(self, request, context):
        prior, proposed = unpack(request.prior_state), unpack(request.proposed_new_state)
        if proposed is None:
            return pb.PlanResourceChange.Response(planned_state=request.proposed_new_state)
        schema = SCHEMA["resources"][request.type_name]
        if prior is None:
            return pb.PlanResourceChange.Response(planned_state=pack(each(schema, proposed, left_open)))
        replaced = [it for it in schema["attributes"] if it in REPLACING and prior.get(it) != proposed.get(it)]
        if replaced:
            fresh = {
                name: None if schema["attributes"].get(name, {}).get("computed") and name not in REPLACING else value
                for name, value in proposed.items()
            }
            proposed = each(schema, fresh, left_open)
        paths = [pb.AttributePath(steps=[pb.AttributePath.Step(attribute_name=it)]) for it in replaced]
        return pb.PlanResourceChange.Response(planned_state=pack(proposed), requires_replace=paths)

    def ApplyResourceChange(self, request, context):
        planned = unpack(request.planned_state)
        if planned is None:
            return pb.ApplyResourceChange.Response(new_state=request.planned_state)
        name = planned.get("account_id") or planned.get("repository_id") or planned.get("name") or request.type_name
        state = each(SCHEMA["resources"][request.type_name], planned, invented(f"{request.type_name}/{name}"))
        return pb.ApplyResourceChange.Response(new_state=pack(state))

    def StopProvider(self, request, context):
        return pb.StopProvider.Response()


class Controller(controller.GRPCControllerServicer):
    """Ends the process when terraform asks."""

    def Shutdown(self, request, context):
        os._exit(0)


class Stdio(stdio.GRPCStdioServicer):
    """Nothing is printed on the side."""

    def StreamStdio(self, request, context):
        return iter([])


def main():
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=unlimited)
    plugin.add_ProviderServicer_to_server(Provider(), server)
    controller.add_GRPCControllerServicer_to_server(Controller(), server)
    stdio.add_GRPCStdioServicer_to_server(Stdio(), server)
    # The part that starts terraform makes this folder and removes it.
    folder = tempfile.mkdtemp(dir=os.environ.get("TELLTALE_STUB_SOCKETS"))
    socket = f"{folder}/provider.sock"
    chain, credentials = _self_signed_cert()
    server.add_secure_port(f"unix://{socket}", credentials)
    server.start()
    print("|".join(["1", "6", "unix", socket, "grpc", base64.b64encode(chain).decode().rstrip("=")]), flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    sys.exit(main())
