"""The embedded policy engine: regorus, guarded.

An engine belongs to the thread that made it and holds the interpreter's lock while it evaluates, so it can
neither run elsewhere nor be stopped: what answers late is refused after the fact.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import watchfiles

from rankgate.clients.policy_files import MAX_BYTES, PolicyFiles, read_policies
from rankgate.clients.rego_check import check_modules, heads, not_replayable
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.policy import encode_question
from rankgate.policy.sample import sample_question
from rankgate.settings import PolicySettings

__all__ = ["EmbeddedEngine", "evaluate", "load_decision", "load_engine", "not_for_opa"]

log = structlog.get_logger(__name__)

QUIET_MS = 100
"""Changes closer together than this are one reload."""
LOOK_MS = 10_000
"""The folder is looked at this often without being told of a change."""

MAX_COLUMNS = 65_536
"""Longest line of a policy; the engine's own default is 1,024."""

_UNDEFINED = '"<undefined>"'
_PLACE = re.compile(r"--> ([^\n]+:\d+:\d+)")


def load_engine(files: PolicyFiles, *, tests: bool = False) -> Any:
    """Return a regorus engine with the modules and data of `files`, tests too where asked.

    Raises SettingsError with one line a fault: `file:line:column: what`.
    """
    engine, faults = _parsed((*files.modules, *(files.tests if tests else ())))
    if faults := faults or check_modules(json.loads(engine.get_ast_as_json()), files.data):
        raise SettingsError("\n".join(faults))
    engine.add_data_json(json.dumps(files.data))
    return engine


def not_for_opa(files: PolicyFiles) -> list[str]:
    """Return one line for each place where OPA would decide by more than the question and the data.

    Raises SettingsError where a module cannot be parsed, as `load_engine` does.
    """
    engine, faults = _parsed(files.modules)
    if faults:
        raise SettingsError("\n".join(faults))
    return not_replayable(json.loads(engine.get_ast_as_json()))


def load_decision(files: PolicyFiles, path: str) -> tuple[Any, str]:
    """Return an engine that has answered the sample question, and the rule at `path` (`a/b`) as `data.a.b`.

    Raises SettingsError as `load_engine` does, and where no rule stands at `path` or evaluating it fails.
    """
    engine = load_engine(files)
    at = tuple(path.split("/"))
    rule = ".".join(("data", *at))
    if not any(head.path == at and not head.function for head in heads(json.loads(engine.get_ast_as_json()))):
        raise SettingsError(f"no rule defines {rule}; set policy.path to the rule that decides")
    # The first evaluation analyses the policy, and clones keep that; it also finds what only evaluation finds.
    engine.set_input_json(encode_question(sample_question()))
    try:
        _guarded(engine.eval_rule_as_json, rule)
    except RuntimeError as error:
        raise SettingsError(_told(rule, error)) from None
    return engine, rule


def evaluate(engine: Any, rule: str, question: str | None = None) -> Any:
    """Return the JSON value of `rule` (`data.a.b`) in a clone of `engine`, None where it is undefined.

    Raises GateError(POLICY_ERROR) with the place in the policy, never with what the engine says of the values.
    """
    try:
        clone = engine.clone()
        if question is not None:
            clone.set_input_json(question)
        answer = _guarded(clone.eval_rule_as_json, rule)
    except RuntimeError as error:
        raise GateError(Reason.POLICY_ERROR, f"evaluation failed at {_place(error)}") from None
    return None if answer == _UNDEFINED else json.loads(answer)


class EmbeddedEngine:
    """Decides with the policies of one folder, and loads them again when they change.

    A change that does not load leaves the old policy in force, with the fault in `fault` and in the log. `changed` is
    told the revision in force and the fault, empty where the folder's new state was taken.
    """

    def __init__(
        self,
        settings: PolicySettings,
        directory: Path,
        *,
        changed: Callable[[str, str], None] = lambda _revision, _fault: None,
    ) -> None:
        self._directory = directory
        self._changed = changed
        self._timeout_s = settings.timeout_s
        self._path = settings.path
        self._rule = ""
        self._engine: Any = None
        self._thread = 0
        self._revision = ""
        self._fault: str | None = None
        self._stopping = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def revision(self) -> str:
        """Return the SHA-256 digest of the policy in force, empty before `start`."""
        return self._revision

    @property
    def ready(self) -> bool:
        """Tell whether a policy is loaded."""
        return self._engine is not None

    @property
    def fault(self) -> str | None:
        """Return why the folder's present state is not in force, None where it is."""
        return self._fault

    async def start(self) -> None:
        """Load the folder and watch it; raises SettingsError where it can never decide."""
        self._use(await asyncio.to_thread(read_policies, self._directory))
        self._watcher = asyncio.create_task(self._watch())
        # The task's first step sets the watch up; what changed before that is looked for here.
        await asyncio.sleep(0)
        await self.reload()

    async def stop(self) -> None:
        """End watching and forget the policy."""
        self._stopping.set()
        if self._watcher is not None:
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        self._engine = None

    async def reload(self) -> bool:
        """Put the folder's present state in force, wholly or not at all; tell whether that worked.

        Also loads an engine that is never started, so that it decides without watching.
        """
        try:
            files = await asyncio.to_thread(read_policies, self._directory)
            if files.revision != self._revision:
                self._use(files)
                log.info("policy_reloaded", revision=self._revision)
                self._changed(self._revision, "")
        except SettingsError as error:
            self._report("policy_reload_failed", str(error))
            return False
        self._fault = None
        return True

    async def decide(self, question: str) -> Any:
        """Return the raw decision, None where it is undefined; raises GateError."""
        if self._engine is None or threading.get_ident() != self._thread:
            raise GateError(Reason.POLICY_UNAVAILABLE, "no policy is loaded in this thread")
        begun = time.monotonic()
        result = evaluate(self._engine, self._rule, question)
        if time.monotonic() - begun > self._timeout_s:
            raise GateError(Reason.POLICY_TIMEOUT)
        return result

    def _use(self, files: PolicyFiles) -> None:
        self._engine, self._rule = load_decision(files, self._path)
        self._revision, self._thread = files.revision, threading.get_ident()

    async def _watch(self) -> None:
        try:
            async for _ in watchfiles.awatch(
                self._directory,
                watch_filter=None,
                step=QUIET_MS,
                # Some file systems tell of no change.
                rust_timeout=LOOK_MS,
                yield_on_timeout=True,
                stop_event=self._stopping,
            ):
                await self.reload()
        except (OSError, RuntimeError):
            self._report("policy_watch_failed", "the policy folder can no longer be watched; put it back and restart")

    def _report(self, event: str, fault: str) -> None:
        if fault != self._fault:
            log.error(event, fault=fault, revision=self._revision)
            self._changed(self._revision, fault)
        self._fault = fault


def _parsed(modules: tuple[tuple[str, str], ...]) -> tuple[Any, list[str]]:
    """Return an engine with `modules`, and one line for each that it cannot parse."""
    try:
        import regorus
    except ImportError:
        raise SettingsError(
            "policy.engine embedded needs regorus; install rankgate[embedded] or use engine opa"
        ) from None
    engine = regorus.Engine()
    # What policies print may quote the call: it is gathered, and dropped with the engine.
    engine.set_gather_prints(True)
    engine.set_policy_length_config(max_col=MAX_COLUMNS, max_file_bytes=MAX_BYTES, max_lines=MAX_BYTES)
    faults = []
    for name, text in modules:
        try:
            _guarded(engine.add_policy, name, text)
        except RuntimeError as error:
            faults.append(_told(name, error))
    return engine, faults


def _guarded(call: Callable[..., Any], *arguments: str) -> Any:
    """Call the engine; a panic of its Rust code, which is no Exception, becomes a RuntimeError."""
    try:
        return call(*arguments)
    except BaseException as panic:
        if type(panic).__name__ != "PanicException":
            raise
        raise RuntimeError("the engine panicked") from None


def _told(name: str, error: RuntimeError) -> str:
    """Return what the engine says of a policy text, on one line; for texts only, it may quote values."""
    text = str(error).partition("Stack backtrace")[0]
    fault = next((line for line in reversed(text.splitlines()) if line.strip()), "cannot be loaded")
    fault = next((line for line in text.splitlines() if line.startswith("error: ")), fault)
    return f"{_place(error, name)}: {fault.removeprefix('error: ').strip()}"


def _place(error: RuntimeError, default: str = "an unknown place") -> str:
    found = _PLACE.search(str(error))
    return found.group(1) if found else default
