"""What a live policy may use, checked on its syntax tree before it decides anything.

The embedded engine finds a missing function only when a rule reaches it, takes `http.send` as undefined, lets
data replace a rule, and dies of a function that calls itself: all of it is refused here, when the policy loads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["BUILTINS", "NONDETERMINISTIC", "Head", "check_modules", "heads", "not_replayable"]

Path = tuple[str, ...]

# Deterministic, present in the embedded engine, and giving what OPA gives for the calls of
# tests/vectors/policy/builtins.txt. Left out although present: bits.lsh, json.filter, json.remove, json.*_schema,
# upper and yaml.* (other results), net.cidr_expand (a /0 fills the memory).
BUILTINS = frozenset({
    "abs", "array.concat", "array.reverse", "array.slice", "base64.decode", "base64.encode",
    "base64.is_valid", "base64url.decode", "base64url.encode", "base64url.encode_no_pad", "bits.and",
    "bits.negate", "bits.or", "bits.rsh", "bits.xor", "ceil", "concat", "contains", "count", "endswith",
    "floor", "format_int", "glob.match", "glob.quote_meta", "graph.reachable", "graph.reachable_paths",
    "hex.decode", "hex.encode", "indexof", "indexof_n", "intersection", "is_array", "is_boolean", "is_null",
    "is_number", "is_object", "is_set", "is_string", "json.is_valid", "json.marshal", "json.patch",
    "json.unmarshal", "lower", "max", "min", "net.cidr_contains", "net.cidr_is_valid", "numbers.range",
    "numbers.range_step", "object.filter", "object.get", "object.keys", "object.remove", "object.subset",
    "object.union", "object.union_n", "print", "product", "regex.find_all_string_submatch_n",
    "regex.find_n", "regex.is_valid", "regex.match", "regex.replace", "regex.split", "regex.template_match",
    "replace", "round", "semver.compare", "semver.is_valid", "sort", "split", "sprintf", "startswith",
    "strings.any_prefix_match", "strings.any_suffix_match", "strings.count", "strings.replace_n",
    "strings.reverse", "substring", "sum", "time.add_date", "time.clock", "time.date", "time.diff",
    "time.format", "time.parse_duration_ns", "time.parse_ns", "time.parse_rfc3339_ns", "time.weekday",
    "to_number", "trim", "trim_left", "trim_prefix", "trim_right", "trim_space", "trim_suffix", "type_name",
    "union", "units.parse", "units.parse_bytes", "urlquery.decode", "urlquery.decode_object",
    "urlquery.encode", "urlquery.encode_object", "uuid.parse", "walk",
})  # fmt: skip

# Their answer is not in the question, so a decision could not be asked again: what OPA 1.x marks `nondeterministic` in
# its capabilities. Tokens are held against the clock or signed at random, schemas may be fetched.
NONDETERMINISTIC = frozenset({
    "http.send", "io.jwt.decode_verify", "io.jwt.encode_sign", "io.jwt.encode_sign_raw", "json.match_schema",
    "json.verify_schema", "net.lookup_ip_addr", "opa.runtime", "rand.intn", "time.now_ns", "uuid.rfc4122",
})  # fmt: skip

# These mean Unicode here and ASCII in OPA.
_UNICODE_CLASSES = tuple("\\" + letter for letter in "dDwWsSbB")


@dataclass(frozen=True, slots=True)
class Head:
    """Where a rule stands: its static path below `data`, and whether it is a function or a partial rule."""

    path: Path
    file: str
    line: int
    function: bool
    partial: bool


@dataclass(slots=True)
class _Module:
    file: str
    package: Path
    imports: dict[str, Path]
    rules: list[tuple[Head, Any]] = field(default_factory=list)


def heads(ast: list[Any]) -> list[Head]:
    """Return every rule of the modules in `ast`, as the engine gives it."""
    return [head for module in map(_module, ast) for head, _ in module.rules]


def not_replayable(ast: list[Any]) -> list[str]:
    """Return one line for each place in the modules of `ast` that uses a function of NONDETERMINISTIC."""
    found = []
    for module in map(_module, ast):
        for _, rule in module.rules:
            for node in _nodes(rule):
                path = _named(node)
                if path and ".".join(path) in NONDETERMINISTIC:
                    line = next(iter(node.values()))["span"]["line"]
                    found.append(f"{module.file}:{line}: {_refused('.'.join(path))}")
    return sorted(set(found))


def check_modules(ast: list[Any], data: dict[str, Any]) -> list[str]:
    """Return one line a fault, `file:line: what and what to do`, none where the policy may go live.

    `ast` is the engine's own syntax tree of all modules, `data` the merged data documents.
    """
    modules = [_module(entry) for entry in ast]
    rules = [head for module in modules for head, _ in module.rules]
    functions = {head.path for head in rules if head.function}
    faults = [fault for head in rules for fault in _replaced(head, data)]
    calls: dict[Path, set[Path]] = {}
    for module in modules:
        for head, rule in module.rules:
            for node in _nodes(rule):
                faults += [f"{module.file}:{line}: {text}" for line, text in _fault(node, module, functions)]
                if head.function and "Call" in node:
                    target = _target(_static(node["Call"]["fcn"]), module, functions)
                    calls.setdefault(head.path, set()).update({target} if target else ())
    faults += [f"{'.'.join(path)} calls itself; write it without recursion" for path in sorted(_cycles(calls))]
    return sorted(set(faults))


def _module(entry: dict[str, Any]) -> _Module:
    source = entry["source"]
    contents = str(source["contents"]).encode()
    tree = entry["ast"]
    imports: dict[str, Path] = {}
    for imported in tree["imports"]:
        path = _static(imported["refr"])
        if path:
            span = imported.get("as")
            alias = contents[span["start"] : span["end"]].decode() if span else path[-1]
            imports[alias] = path
    module = _Module(str(source["file"]), _static(tree["package"]["refr"]) or (), imports)
    module.rules = [(_head(rule, module), rule) for rule in tree["rules"]]
    return module


def _head(rule: dict[str, Any], module: _Module) -> Head:
    if "Default" in rule:
        body = rule["Default"]
        ref, function, partial = body["refr"], bool(body["args"]), False
    else:
        body = rule["Spec"]
        kind, head = next(iter(body["head"].items()))
        ref, function, partial = head["refr"], kind == "Func", kind == "Set"
    path = _static(ref)
    while path is None:
        # A partial rule: what counts is the part before its first variable.
        ref = next(iter(ref.values()))["refr"]
        path, partial = _static(ref), True
    partial = partial or "RefBrack" in ref
    return Head((*module.package, *path), module.file, body["span"]["line"], function, partial)


def _static(ref: Any) -> Path | None:
    """Return the segments of a reference made of names and strings alone, None for any other."""
    kind, node = next(iter(ref.items()))
    if kind == "Var":
        return (node["value"],)
    if kind not in {"RefDot", "RefBrack"}:
        return None
    inner = _static(node["refr"])
    if inner is None:
        return None
    if kind == "RefDot":
        return (*inner, node["field"][1])
    index_kind, index = next(iter(node["index"].items()))
    return (*inner, index["value"]) if index_kind in {"String", "RawString"} else None


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _fault(node: dict[str, Any], module: _Module, functions: set[Path]) -> Iterator[tuple[int, str]]:
    if "Call" in node:
        call = node["Call"]
        yield from ((call["span"]["line"], text) for text in _call_faults(call, module, functions))
    elif "RefDot" in node or "RefBrack" in node:
        name = ".".join(map(str, _static(node) or ()))
        if name in NONDETERMINISTIC:
            yield next(iter(node.values()))["span"]["line"], _refused(name)


def _named(node: dict[str, Any]) -> Path | None:
    """Return the name of what a node calls or refers to, None for any other node."""
    if "Call" in node:
        return _static(node["Call"]["fcn"])
    return _static(node) if "RefDot" in node or "RefBrack" in node else None


def _call_faults(call: dict[str, Any], module: _Module, functions: set[Path]) -> Iterator[str]:
    path = _static(call["fcn"])
    if path is None:
        yield "the called function is computed; call it by its name"
        return
    name = ".".join(path)
    if name in NONDETERMINISTIC:
        yield _refused(name)
    elif _target(path, module, functions) is None and name not in BUILTINS:
        yield f"{name} is no function of this policy and none the embedded engine offers"
    elif name.startswith("regex.") and any(map(_has_unicode_class, call["params"])):
        yield f"{name}: \\d, \\w, \\s and \\b differ between engines; write the characters, as in [0-9]"


def _refused(name: str) -> str:
    remedy = "use input.time" if name == "time.now_ns" else "decide on the input and data alone"
    return f"{name} is refused in live policies, its answer cannot be replayed; {remedy}"


def _has_unicode_class(param: dict[str, Any]) -> bool:
    kind, node = next(iter(param.items()))
    return kind in {"String", "RawString"} and any(mark in str(node["value"]) for mark in _UNICODE_CLASSES)


def _target(path: Path | None, module: _Module, functions: set[Path]) -> Path | None:
    """Return the function of this policy that a call by `path` reaches, None where there is none."""
    if not path:
        return None
    if path[0] == "data":
        full = path[1:]
    elif path[0] in module.imports:
        full = (*module.imports[path[0]], *path[1:])[1:]
    else:
        full = (*module.package, *path)
    return full if full in functions else None


def _replaced(head: Head, data: dict[str, Any]) -> Iterator[str]:
    value: Any = data
    for segment in head.path:
        if not isinstance(value, dict):
            break
        if segment not in value:
            return
        value = value[segment]
    yield f"{head.file}:{head.line}: data.json already gives data.{'.'.join(head.path)}; it would replace the rule"


def _cycles(calls: dict[Path, set[Path]]) -> set[Path]:
    def reach(start: Path) -> set[Path]:
        seen: set[Path] = set()
        stack = [start]
        while stack:
            for called in calls.get(stack.pop(), ()):
                if called not in seen:
                    seen.add(called)
                    stack.append(called)
        return seen

    return {path for path in calls if path in reach(path)}
