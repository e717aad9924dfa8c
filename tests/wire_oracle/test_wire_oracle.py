"""Our small protos say the same on the wire as Envoy's published ones, which live in a process of their own.

The two must never meet in one process (same full names) nor in one environment (xds-protos overwrites files of
other distributions), so tests/run.sh makes an environment for the oracle and names its Python in RANKGATE_ORACLE.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict

from rankgate.pb import common_pb2, ext_authz_pb2, ext_proc_pb2

PYTHON = os.environ.get("RANKGATE_ORACLE", str(Path(__file__).parents[2] / ".cache/oracle/bin/python"))
pytestmark = [
    pytest.mark.wire_oracle,
    pytest.mark.skipif(not Path(PYTHON).exists(), reason="no environment with xds-protos"),
]

CORE, TYPE = "envoy.config.core.v3", "envoy.type.v3"
AUTH, PROC = "envoy.service.auth.v3", "envoy.service.ext_proc.v3"
ENVOY_NAME = {
    "rankgate.wire.HttpStatus": f"{TYPE}.HttpStatus",
    f"{PROC}.BodySendMode": "envoy.extensions.filters.http.ext_proc.v3.ProcessingMode.BodySendMode",
}
# Our int32 where Envoy has an enumeration with the same numbers: identical on the wire.
SAME_ON_THE_WIRE = {("rankgate.wire.HttpStatus", "code")}


def messages():
    def nested(descriptor):
        yield descriptor
        for child in descriptor.nested_types:
            if not child.GetOptions().map_entry:
                yield from nested(child)

    for module in (common_pb2, ext_authz_pb2, ext_proc_pb2):
        for descriptor in module.DESCRIPTOR.message_types_by_name.values():
            yield from nested(descriptor)


def envoy_name(full_name):
    return ENVOY_NAME.get(full_name, full_name.replace("rankgate.wire", CORE))


@pytest.fixture(scope="module")
def ask():
    oracle = subprocess.Popen(
        [PYTHON, str(Path(__file__).with_name("oracle.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def _ask(**request):
        oracle.stdin.write(json.dumps(request) + "\n")
        oracle.stdin.flush()
        return json.loads(oracle.stdout.readline())

    yield _ask
    oracle.stdin.close()
    oracle.stdout.close()
    oracle.wait(timeout=10)


@pytest.mark.parametrize("descriptor", list(messages()), ids=lambda descriptor: descriptor.full_name)
def test_every_field_has_the_number_and_type_that_envoy_gives_it(ask, descriptor):
    theirs = ask(describe=envoy_name(descriptor.full_name))
    for field in descriptor.fields:
        number, kind, repeated = theirs[field.name]
        assert number == field.number, field.full_name
        assert repeated == field.is_repeated, field.full_name
        if (descriptor.full_name, field.name) not in SAME_ON_THE_WIRE:
            assert kind == field.type, field.full_name


@pytest.mark.parametrize("name", [f"{PROC}.BodySendMode", "rankgate.wire.HeaderValueOption.HeaderAppendAction"])
def test_every_enumeration_value_is_envoys(ask, name):
    module = ext_proc_pb2 if name.startswith(PROC) else common_pb2
    ours = (
        module.DESCRIPTOR.enum_types_by_name["BodySendMode"]
        if module is ext_proc_pb2
        else common_pb2.HeaderValueOption.DESCRIPTOR.enum_types_by_name["HeaderAppendAction"]
    )
    assert {value.name: value.number for value in ours.values} == ask(describe=envoy_name(name))


def filled(message, depth=0):
    """Fill every field of `message`, of a oneof the last one, with a value that tells it apart."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is not None and depth < 6:
            if field.message_type.GetOptions().map_entry:
                fill_map(message, field, depth)
            elif field.is_repeated:
                filled(getattr(message, field.name).add(), depth + 1)
            else:
                getattr(message, field.name).SetInParent()
                filled(getattr(message, field.name), depth + 1)
        elif field.message_type is None:
            value = {9: f"s{field.number}", 12: bytes([field.number, 255]), 8: True, 14: 1, 1: 1.5}.get(
                field.type, field.number + 400
            )
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    return message


def fill_map(message, field, depth):
    value = field.message_type.fields_by_name["value"]
    if value.message_type is None:
        getattr(message, field.name)["k"] = "v"
    else:
        getattr(message, field.name)["k"].update({"n": 1.5, "s": "x", "l": [True, None]})


@pytest.mark.parametrize(
    "message",
    [
        ext_authz_pb2.CheckRequest(),
        ext_authz_pb2.CheckResponse(),
        ext_proc_pb2.ProcessingRequest(),
        ext_proc_pb2.ProcessingResponse(),
        *(ext_proc_pb2.ProcessingRequest(**{name: {}}) for name in ("request_headers", "response_body")),
    ],
    ids=lambda message: message.DESCRIPTOR.name,
)
def test_bytes_written_by_one_side_are_read_the_same_by_the_other(ask, message):
    # Struct has a oneof inside a recursive type; it is filled through the maps and dynamic metadata only.
    if isinstance(message, ext_authz_pb2.CheckResponse):
        message.status.code = 7
        message.status.message = "no"
        filled(message.denied_response)
        message.dynamic_metadata.update({"rankgate": {"decision_id": "dec-1", "n": 3}})
    else:
        filled(message)
    theirs = ask(message=message.DESCRIPTOR.full_name, bytes=message.SerializeToString().hex())
    ours = MessageToDict(message, preserving_proto_field_name=True)
    back = type(message).FromString(bytes.fromhex(theirs["bytes"]))
    assert MessageToDict(back, preserving_proto_field_name=True) == ours
    assert shape(theirs["fields"]) == shape(ours)


def shape(value):
    """Return `value` with enumeration names and numbers made alike."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items() if key != "code"}
    return [shape(item) for item in value] if isinstance(value, list) else value
