"""Log lines are single JSON lines without secrets, and libraries cannot quote a request into them."""

import json
import subprocess
import sys

import pytest

HEAD = """
import logging
from rankgate.clients import logs
from rankgate.settings import LogSettings
logs.configure(LogSettings())
"""


def lines_of(program):
    """Return what a process that runs `program` writes on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + program], capture_output=True, text=True, check=True, timeout=60
    )
    return [json.loads(line) for line in done.stderr.splitlines()], done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "token", "Authorization", "password", "lease", "key", "set-cookie", "x-api-key", "access_token",
        "client_secret", "redis_password", "Proxy-Authorization",
    ],
)  # fmt: skip
def test_a_member_that_names_a_secret_is_not_written(name):
    (line,), _ = lines_of(f"logs.logger('test').info('event', **{{{name!r}: 's3cret'}})")
    assert line[name] == "***"


@pytest.mark.parametrize(
    "value",
    [
        "{'token': 's3cret'}",
        "{'a': {'b': {'Proxy_Authorization': 's3cret'}}}",
        "[{'lease': 's3cret'}]",
        "({'set-cookie': ['s3cret']},)",
        "{'headers': [{'name': 'x', 'value': 's3cret'}]}",
        "types.MappingProxyType({'password': 's3cret'})",
        "types.SimpleNamespace(token='s3cret')",
        "{'body': b's3cret'}",
        "dataclasses.make_dataclass('Lease', ['token'])('s3cret')",
    ],
)
def test_a_secret_is_not_written_at_any_depth_or_inside_any_object(value):
    (line,), raw = lines_of(f"import dataclasses, types\nlogs.logger('test').info('event', detail={value})")
    assert "s3cret" not in raw
    assert line["detail"]


def test_what_is_no_secret_is_written_as_it_is_and_the_callers_own_values_stay():
    program = """
detail = {"count": 2, "names": ("a", "b"), "inner": {"ok": True, "none": None, "share": 0.5, "token": "s3cret"}}
logs.logger("test").info("event", detail=detail, key_file="/run/key", keys_dropped=1, token_count=3)
assert detail["inner"]["token"] == "s3cret"
"""
    (line,), _ = lines_of(program)
    assert {"key_file": "/run/key", "keys_dropped": 1, "token_count": 3}.items() <= line.items()
    assert line["detail"] == {
        "count": 2, "names": ["a", "b"], "inner": {"ok": True, "none": None, "share": 0.5, "token": "***"},
    }  # fmt: skip


def test_scenario_60_control_characters_stay_inside_one_line():
    text = "a\r\nb\x1b[31m\u2028c\x00"
    (line,), raw = lines_of(f"logs.logger('test').info('event', path={text!r})")
    assert line["path"] == text
    assert raw.isascii()


def test_a_librarys_text_and_exception_are_left_out():
    program = """
try:
    raise ValueError("token eyJ")
except ValueError:
    logging.getLogger("aiohttp.client").exception("failed for token eyJ")
"""
    (line,), raw = lines_of(program)
    assert "eyJ" not in raw
    assert (line["library"], line["error"]) == ("aiohttp.client", "ValueError")
