"""Runs in an environment of its own with xds-protos: describes Envoy's messages, and reads and rewrites bytes.

One JSON request a line: {"describe": NAME} or {"message": NAME, "bytes": HEX}; one JSON answer a line.
"""

import importlib
import json
import sys

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.json_format import MessageToDict

for module in (
    "envoy.service.auth.v3.external_auth_pb2",
    "envoy.service.ext_proc.v3.external_processor_pb2",
    "envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2",
):
    importlib.import_module(module)

POOL = descriptor_pool.Default()


def describe(name):
    try:
        enum = POOL.FindEnumTypeByName(name)
        return {value.name: value.number for value in enum.values}
    except KeyError:
        message = POOL.FindMessageTypeByName(name)
        return {field.name: [field.number, field.type, field.is_repeated] for field in message.fields}


def rewrite(name, data):
    message = message_factory.GetMessageClass(POOL.FindMessageTypeByName(name)).FromString(data)
    return {
        "fields": MessageToDict(message, preserving_proto_field_name=True),
        "bytes": message.SerializeToString(deterministic=True).hex(),
    }


for line in sys.stdin:
    request = json.loads(line)
    if "describe" in request:
        answer = describe(request["describe"])
    else:
        answer = rewrite(request["message"], bytes.fromhex(request["bytes"]))
    print(json.dumps(answer), flush=True)
