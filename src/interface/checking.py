"""A YAML file as nested frozen dataclasses: types, ranges and names checked against their annotations.

A value is wrong in one line: the key, what it is, what is allowed. Imports no sibling. An observer, as params.py is.
"""

import difflib
import math
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

Section = TypeVar("Section")


@dataclass(frozen=True)
class Range:
    """Numbers between `low` and `high`; an end is left out where its flag says so."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        return (value > self.low if self.above else value >= self.low) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        low = f"{'>' if self.above else '>='} {self.low:.10g}"
        return low if self.high == math.inf else f"{low} and {'<' if self.below else '<='} {self.high:.10g}"


@dataclass(frozen=True)
class Pattern:
    """Texts that match `regex` as a whole, in words `description`."""

    regex: str
    description: str

    def __contains__(self, value: str) -> bool:
        return re.fullmatch(self.regex, value) is not None


class _Yaml12Loader(yaml.SafeLoader):
    """The YAML that DVC reads. PyYAML alone (YAML 1.1) takes the `1e-05` that `dvc exp run -S lr=0.00001` writes for a
    text, 010 for 8, and the last of two equal keys."""


def _mapping(loader: _Yaml12Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    for index, (key, _) in enumerate(node.value):
        if key.value in [earlier.value for earlier, _ in node.value[:index]]:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} for the second time", key.start_mark)
    return loader.construct_mapping(node, deep=True)


_Yaml12Loader.yaml_implicit_resolvers = {}
for _tag, _pattern in {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}.items():
    _Yaml12Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), None)
_Yaml12Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
# Python refuses to read 4300 digits; as a text they are refused under their key's name.
_Yaml12Loader.add_constructor("tag:yaml.org,2002:int", lambda _, n: n.value if len(n.value) > 1000 else int(n.value))


def read(section: type[Section], content: bytes, path: str | Path) -> Section:
    """The `content` of the file `path` as an instance of the dataclass `section`.

    Raises:
        ValueError: in one line, the first key that is unknown, missing, of the wrong type or out of range.
    """
    return check(section, parse(content, path))


def check(section: type[Section], values: Any) -> Section:
    """`values`, as `parse` gives them, as an instance of the dataclass `section`.

    Raises:
        ValueError: as `read` does, of what is YAML.
    """
    built: Section = _build(section, values, "")
    return built


def parse(content: bytes, path: str | Path) -> Any:
    """What the YAML of the file `path` says, unchecked.

    Raises:
        ValueError: it is no YAML; in one line.
    """
    try:
        return yaml.load(content.decode("utf-8"), Loader=_Yaml12Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ValueError(f"{path}, line {line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def _build(section: type, values: Any, prefix: str) -> Any:
    """An instance of the dataclass `section` from the mapping `values`; `prefix` is its dotted name and a dot."""
    where = f"{prefix.rstrip('.') or 'params.yaml'}: "
    known = [field.name for field in fields(section)]
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}{_shown(values)} is no section; allowed: a mapping with the keys {', '.join(known)}")
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"allowed: {', '.join(known)}"
            raise ValueError(f"{prefix}{_shown(key, quote=False)}: unknown key; {hint}")
    hints = get_type_hints(section, include_extras=True)
    for field in fields(section):
        if field.name not in values and field.default is MISSING:
            raise ValueError(f"{prefix}{field.name}: missing; allowed: {_allowed(hints[field.name])}")
    return section(**{key: _checked(hints[key], values[key], f"{prefix}{key}") for key in known if key in values})


def _members(kind: Any, values: Any, name: str) -> dict[str, Any]:
    """The mapping `values` with the keys and the kind of member that `kind`, a dict[key, kind], allows."""
    names, member = get_args(kind)
    if not isinstance(values, Mapping):
        raise ValueError(f"{name}: {_shown(values)} is not allowed; allowed: {_allowed(kind)}")
    for key in values:
        if not _matches(names, key):
            raise ValueError(f"{name}.{_shown(key, quote=False)}: not allowed as a key; allowed: {_allowed(names)}")
    return {key: _checked(member, value, f"{name}.{key}") for key, value in values.items()}


def _checked(kind: Any, value: Any, name: str) -> Any:
    """`value` as `kind`, or a ValueError that names it."""
    if is_dataclass(kind):
        return _build(kind, value, f"{name}.")  # type: ignore[arg-type]
    if get_origin(kind) is dict:
        return _members(kind, value, name)
    if get_origin(kind) is tuple:
        if not isinstance(value, list) or not value:
            raise ValueError(f"{name}: {_shown(value)} is not allowed; allowed: {_allowed(kind)}")
        items = tuple(_checked(get_args(kind)[0], item, f"{name}[{i}]") for i, item in enumerate(value))
        if len(set(items)) < len(items):
            raise ValueError(f"{name}: {_shown(value)} names a value twice; allowed: each value once")
        return items
    for alternative in _alternatives(kind):
        if _matches(alternative, value):
            return float(value) if _plain(alternative) is float else value
    raise ValueError(f"{name}: {_shown(value)} is not allowed; allowed: {_allowed(kind)}{_guess(kind, value)}")


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _plain(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _matches(kind: Any, value: Any) -> bool:
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if kind is str:
        return isinstance(value, str) and bool(value.strip()) and not any(ord(letter) < 32 for letter in value)
    plain = _plain(kind)
    if plain is str:
        return isinstance(value, str) and all(value in each for each in get_args(kind)[1:])
    if plain in (int, float):
        number = isinstance(value, (int, float) if plain is float else int) and not isinstance(value, bool)
        return number and all(value in bound for bound in get_args(kind)[1:] if isinstance(bound, Range))
    return isinstance(value, plain)


def _allowed(kind: Any) -> str:
    if is_dataclass(kind):
        return "a section"
    if get_origin(kind) is dict:
        return f"a mapping whose keys are of {_allowed(get_args(kind)[0])}"
    if get_origin(kind) is tuple:
        return f"a list of at least one: {_allowed(get_args(kind)[0])}"
    if len(_alternatives(kind)) > 1:
        return " or ".join(_allowed(alternative) for alternative in _alternatives(kind))
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if patterns := [each.description for each in get_args(kind)[1:] if isinstance(each, Pattern)]:
        return " ".join(patterns)
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a text", types.NoneType: "null"}
    bounds = " ".join(f" {bound}" for bound in get_args(kind)[1:]) if get_origin(kind) is Annotated else ""
    return names[_plain(kind)] + bounds


def _guess(kind: Any, value: Any) -> str:
    choices = [str(c) for k in _alternatives(kind) if get_origin(k) is Literal for c in get_args(k)]
    close = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    return f"; did you mean {close[0]}?" if close else ""


def _shown(value: Any, *, quote: bool = True) -> str:
    """`value` as a person typed it, in one line and not too long."""
    if isinstance(value, str) and not quote and value.isprintable():
        text = value
    else:
        text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
