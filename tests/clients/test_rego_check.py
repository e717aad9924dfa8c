"""What a live policy may use: the check of its syntax tree, and the builtins it lets through."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from fakes.opa_server import binary

from rankgate.clients.policy_files import PolicyFiles
from rankgate.clients.rego import evaluate, load_engine
from rankgate.clients.rego_check import BUILTINS, NONDETERMINISTIC, heads
from rankgate.errors import SettingsError

regorus = pytest.importorskip("regorus", reason="regorus is not installed: rankgate[embedded]")

CALLS = (Path(__file__).parents[1] / "vectors" / "policy" / "builtins.txt").read_text("utf-8").splitlines()
TESTED = "\n".join(f"x{number} := {call}" for number, call in enumerate(CALLS))


def load(*modules: str, data: dict | None = None):
    named = tuple((f"m{number}.rego", text) for number, text in enumerate(modules))
    return load_engine(PolicyFiles(named, (), data or {}, ""))


def faults(*modules: str, data: dict | None = None) -> str:
    try:
        load(*modules, data=data)
    except SettingsError as error:
        return str(error)
    return ""


def test_functions_are_found_under_every_name_they_have() -> None:
    library = "package lib.text\n\nshort(x) if count(x) < 5\n\ndefault tag(_) := 1\n\nnested.deep(x) := x\n"
    policy = """package a
import data.lib.text
import data.lib.text as words
import data.lib.text.short
own(x) := x
decision if {
	text.short("x")
	words.short("x")
	short("x")
	data.lib.text.short("x")
	text.nested.deep(1) == 1
	text.tag(1) == 1
	own(1) == 1
	data.a.own(1) == 1
}
"""
    assert faults(library, policy) == ""
    assert evaluate(load(library, policy), "data.a.decision") is True


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("text.missing(1)", "text.missing is no function"),
        ("data.lib.text.missing(1)", "data.lib.text.missing is no function"),
        ("data.lib.other.short(1)", "data.lib.other.short is no function"),
        ("text(1)", "text is no function"),
        ("rule(1)", "rule is no function"),
    ],
)
def test_a_function_that_is_not_there_is_refused_with_its_place(body: str, says: str) -> None:
    library = "package lib.text\n\nshort(x) if count(x) < 5\n"
    policy = f"package a\nimport data.lib.text\nrule := 1\ndecision if {body}\n"
    assert f"m1.rego:4: {says}" in faults(library, policy)


@pytest.mark.parametrize("name", sorted(NONDETERMINISTIC))
def test_what_cannot_be_replayed_is_refused_however_it_is_reached(name: str) -> None:
    space, _, last = name.rpartition(".")
    ways = [
        f"x := {name}(1)",
        f"x if not {name}(1)",
        f"x := [y | y := {name}(1)]",
        f"x if f(1) with f as {name}\nf(y) := y",
    ]
    if space:
        ways += [f'x := {space}["{last}"](1)', f"import data.fine as {space.split('.')[0]}\nx := {name}(1)"]
    for way in ways:
        found = faults(f"package a\n{way}\n")
        assert found, way
        if space:
            assert name in found, way


def test_a_computed_function_is_refused() -> None:
    assert "m0.rego:3" in faults('package a\nk := "b"\nx := data.a[k](1)\nb(y) := y\n')


@pytest.mark.parametrize(
    ("data", "replaced"),
    [
        ({"a": {"decision": False}}, True),
        ({"a": True}, True),
        ({"a": {"f": 1}}, True),
        ({"a": {"part": {"k": 1}}}, True),
        ({"a": {"other": 1}, "decision": True}, False),
        ({}, False),
    ],
)
def test_data_never_stands_in_for_a_rule(data: dict, replaced: bool) -> None:
    policy = "package a\n\ndecision := f(1)\n\nf(x) := x\n\npart[k] := v if { some k, v in input }\n"
    assert ("would replace the rule" in faults(policy, data=data)) is replaced


def test_recursion_is_found_across_modules() -> None:
    one = "package one\n\nimport data.two\n\nf(x) := two.g(x)\n"
    two = "package two\n\nimport data.one\n\ng(x) := one.f(x)\n\nh(x) := x\n"
    found = faults(one, two)
    assert "one.f calls itself" in found
    assert "two.g calls itself" in found
    assert "two.h" not in found


def test_heads_tell_what_each_rule_is() -> None:
    engine = load('package a.b\n\nx := 1\n\nf(y) := y\n\ns contains 1\n\np[k] := 1 if k := "a"\n\nq["lit"] := 2\n')
    told = {head.path[-1]: (head.function, head.partial) for head in heads(json.loads(engine.get_ast_as_json()))}
    assert told == {
        "x": (False, False),
        "f": (True, False),
        "s": (False, True),
        "p": (False, True),
        "lit": (False, True),
    }


def test_every_builtin_let_through_is_one_the_engine_has() -> None:
    for name in BUILTINS - {"print", "walk"}:
        said = [_said(name, arguments) for arguments in range(1, 4)]
        assert not all("could not find function" in text for text in said), name


def _said(name: str, arguments: int) -> str:
    engine = regorus.Engine()
    engine.add_policy("a.rego", f"package a\nx := {name}({', '.join(['1'] * arguments)})\n")
    try:
        return str(engine.eval_rule_as_json("data.a.x"))
    except RuntimeError as error:
        return str(error)


def test_every_builtin_let_through_is_called_in_the_comparison() -> None:
    called = set(re.findall(r"[a-z][a-z0-9_.]*(?=\()", "\n".join(CALLS)))
    assert BUILTINS - called == {"print"}


@pytest.mark.opa
def test_the_engine_gives_what_opa_gives(tmp_path: Path) -> None:
    (tmp_path / "a.rego").write_text(f"package a\n\n{TESTED}\n")
    command = [binary(), "eval", "--data", str(tmp_path), "data.a"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    wanted = json.loads(told.stdout)["result"][0]["expressions"][0]["value"]
    engine = load(f"package a\n\n{TESTED}\n")
    for number, call in enumerate(CALLS):
        assert (call, evaluate(engine, f"data.a.x{number}")) == (call, wanted.get(f"x{number}"))
