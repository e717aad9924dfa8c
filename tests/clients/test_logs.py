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


@pytest.mark.parametrize("name", ["token", "Authorization", "password", "lease", "key", "set-cookie"])
def test_a_member_that_names_a_secret_is_not_written(name):
    (line,), _ = lines_of(f"logs.logger('test').info('event', **{{{name!r}: 's3cret'}})")
    assert line[name] == "***"


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
