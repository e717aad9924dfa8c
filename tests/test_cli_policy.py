from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rankgate.cli import root
from rankgate.policy.sample import sample_question

pytest.importorskip("regorus", reason="regorus is not installed: rankgate[embedded]")

POLICIES = Path(__file__).parents[1] / "policies"
POLICY = "package rankgate\n\ndecision := input.rerank.document_count < 3\n"
TESTS = """package rankgate_test

import data.rankgate

test_few if rankgate.decision with input as {"rerank": {"document_count": 1}}

test_many if not rankgate.decision with input as {"rerank": {"document_count": 9}}

todo_test_later if false
"""


def rankgate(*arguments: str | Path, stdin: str = "") -> Result:
    return CliRunner().invoke(root, ["policy", *map(str, arguments)], input=stdin, prog_name="rankgate")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.rego").write_text(POLICY)
    (tmp_path / "a_test.rego").write_text(TESTS)
    return tmp_path


class TestCheck:
    def test_the_shipped_policy_is_fine(self) -> None:
        told = rankgate("check", POLICIES)
        assert told.exit_code == 0
        assert ": ok, 3 modules, 1 test files, sha256:" in told.output

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("package rankgate\n\ndecision := {\n", "a.rego:"),
            ("package rankgate\n\ndecision := x\n", "a.rego:3:"),
            ("package rankgate\n\ndecision := time.now_ns()\n", "a.rego:3: time.now_ns is refused"),
            ("package other\n\ndecision := true\n", "no rule defines data.rankgate.decision"),
        ],
    )
    def test_a_fault_is_one_line_with_its_place(self, folder: Path, text: str, says: str) -> None:
        (folder / "a.rego").write_text(text)
        told = rankgate("check", folder)
        assert told.exit_code == 1
        assert says in told.output
        assert "Traceback" not in told.output
        assert len(told.output.splitlines()) == 1

    @pytest.mark.parametrize(
        ("ruling", "says"),
        [
            ('{"allow": true}', "policy_invalid: allowed must be true or false"),
            ('{"allowed": true, "rankgate": {"reason": "x"}}', "policy_invalid: rankgate has an unknown key"),
            ('"yes"', "policy_invalid: decision must be a boolean or an object"),
        ],
    )
    def test_a_ruling_that_no_gate_understands_is_found(self, folder: Path, ruling: str, says: str) -> None:
        (folder / "a.rego").write_text(f"package rankgate\n\ndecision := {ruling}\n")
        told = rankgate("check", folder)
        assert told.exit_code == 1
        assert told.output.startswith(f"Error: data.rankgate.decision, asked the sample question: {says}")
        assert len(told.output.splitlines()) == 1

    @pytest.mark.parametrize(
        "call",
        [
            'http.send({"method": "GET", "url": "http://127.0.0.1"})', 'io.jwt.decode_verify("a", {})',
            'io.jwt.encode_sign({}, {}, {})', 'io.jwt.encode_sign_raw("", "", "")', 'json.match_schema({}, {})',
            "json.verify_schema({})", 'net.lookup_ip_addr("a.example")', "opa.runtime()", 'rand.intn("a", 3)',
            "time.now_ns()", 'uuid.rfc4122("a")',
        ],
    )  # fmt: skip
    def test_what_cannot_be_asked_again_is_refused_here_and_reported_for_opa(self, folder: Path, call: str) -> None:
        (folder / "a.rego").write_text(f"package rankgate\n\ndecision if {{\n\tx := {call}\n\tx == 1\n}}\n")
        name = call.partition("(")[0]
        for options in ((), ("--opa",)):
            told = rankgate("check", *options, folder)
            assert told.exit_code == 1
            assert told.output == (
                f"Error: a.rego:4: {name} is refused in live policies, its answer cannot be replayed; "
                f"{'use input.time' if name == 'time.now_ns' else 'decide on the input and data alone'}\n"
            )

    def test_for_opa_a_function_that_only_opa_has_is_no_fault(self, folder: Path) -> None:
        (folder / "a.rego").write_text('package rankgate\n\ndecision if crypto.sha256("a") == input.route\n')
        assert rankgate("check", folder).exit_code == 1
        told = rankgate("check", "--opa", folder)
        assert (told.exit_code, ": ok for OPA" in told.output) == (0, True)

    def test_for_opa_the_shipped_policy_is_fine(self) -> None:
        assert rankgate("check", "--opa", POLICIES).exit_code == 0

    def test_a_policy_that_leaves_the_sample_open_is_no_mistake(self, folder: Path) -> None:
        (folder / "a.rego").write_text('package rankgate\n\ndecision if input.route == "another"\n')
        assert rankgate("check", folder).exit_code == 0

    def test_another_decision_is_named_by_its_path(self, folder: Path) -> None:
        (folder / "b.rego").write_text("package envoy.authz\n\ndefault allow := false\n")
        assert rankgate("check", folder, "--path", "envoy/authz/allow").exit_code == 0


class TestTest:
    def test_it_reports_as_opa_test_does(self, folder: Path) -> None:
        told = rankgate("test", folder)
        lines = told.output.splitlines()
        assert told.exit_code == 0
        assert lines[0].startswith("data.rankgate_test.test_few: PASS (")
        assert lines[0].endswith("ms)")
        assert "data.rankgate_test.todo_test_later: SKIPPED" in lines
        assert lines[-2:] == ["PASS: 2/2", "SKIPPED: 1/3"]

    def test_the_shipped_tests_pass(self) -> None:
        told = rankgate("test", POLICIES)
        assert told.exit_code == 0
        assert "FAIL" not in told.output

    def test_a_failure_and_an_error_exit_with_1_and_say_where(self, folder: Path) -> None:
        (folder / "b_test.rego").write_text(
            "package rankgate_test\n\ntest_wrong if 1 == 2\n\n"
            'test_broken if to_number("x") == 1\n\ntest_case["a"] if true\n'
        )
        told = rankgate("test", folder)
        assert told.exit_code == 1
        assert "data.rankgate_test.test_wrong: FAIL" in told.output
        assert "  b_test.rego:3" in told.output
        assert "data.rankgate_test.test_broken: ERROR" in told.output
        assert "need `opa test`" in told.output
        for line in ("PASS: 2/5", "FAIL: 1/5", "ERROR: 2/5"):
            assert line in told.output.splitlines()

    def test_a_value_that_is_not_true_fails(self, folder: Path) -> None:
        (folder / "b_test.rego").write_text('package rankgate_test\n\ntest_word := "true"\n\ntest_no := false\n')
        told = rankgate("test", folder)
        assert told.exit_code == 1
        assert "FAIL: 2/4" in told.output

    def test_run_chooses_by_name(self, folder: Path) -> None:
        told = rankgate("test", folder, "--run", "few$")
        assert told.exit_code == 0
        assert "test_many" not in told.output
        assert "PASS: 1/1" in told.output

    def test_no_test_at_all_is_no_success(self, folder: Path) -> None:
        assert rankgate("test", folder, "--run", "nothing").exit_code == 1
        assert rankgate("test", folder, "--run", "(").exit_code == 2

    def test_json(self, folder: Path) -> None:
        results = json.loads(rankgate("test", folder, "-o", "json").output)
        assert [(result["rule"].split(".")[-1], result["outcome"]) for result in results] == [
            ("test_few", "pass"),
            ("test_many", "pass"),
            ("todo_test_later", "skipped"),
        ]
        assert results[0]["location"] == "a_test.rego:5"
        assert results[0]["duration"] > 0


class TestEval:
    def test_the_ruling_is_printed_as_the_gate_reads_it(self) -> None:
        told = rankgate("eval", "--input", "-", stdin=json.dumps(sample_question()))
        assert told.exit_code == 0
        assert told.output.splitlines()[0] == "denied (403)"
        assert "this client is not known here" in told.output

    def test_json_and_a_folder(self, folder: Path) -> None:
        told = rankgate("eval", "--input", "-", "--policy", folder, "-o", "json", stdin=json.dumps(sample_question()))
        assert told.exit_code == 0
        assert json.loads(told.output)["allowed"] is True

    def test_an_undefined_decision_is_an_error(self, folder: Path) -> None:
        told = rankgate("eval", "--input", "-", "--policy", folder, stdin="{}")
        assert told.exit_code == 1
        assert told.output == "Error: policy_undefined\n"

    def test_a_ruling_that_is_not_understood_says_which_member(self, folder: Path) -> None:
        (folder / "a.rego").write_text(
            'package rankgate\n\ndecision := {"allowed": true, "rankgate": {"reason": "x"}}\n'
        )
        told = rankgate("eval", "--input", "-", "--policy", folder, stdin="{}")
        assert told.exit_code == 1
        assert "policy_invalid: rankgate has an unknown key; known are approval, capture" in told.output

    def test_positions_are_checked_against_the_question(self, folder: Path) -> None:
        (folder / "a.rego").write_text(
            'package rankgate\n\ndecision := {"allowed": true, "rankgate": {"documents": {"drop": [2]}}}\n'
        )
        told = rankgate("eval", "--input", "-", "--policy", folder, stdin='{"rerank": {"document_count": 2}}')
        assert "policy_invalid: rankgate.documents.drop" in told.output

    @pytest.mark.parametrize("question", ["", "{", "[]", '{"rerank": 1}', '{"rerank": {"document_count": "2"}}'])
    def test_what_is_no_question_is_said_in_one_line(self, question: str) -> None:
        told = rankgate("eval", "--input", "-", stdin=question)
        assert told.exit_code == 1
        assert told.output.startswith("Error: the question")
        assert len(told.output.splitlines()) == 1


def test_a_sample_question_can_be_evaluated() -> None:
    sample = rankgate("sample")
    assert json.loads(sample.output) == sample_question()


def test_help_imports_no_engine() -> None:
    code = "import sys, rankgate.cli.policy; sys.exit(bool({'regorus', 'aiohttp', 'watchfiles'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
