"""What a configuration model looks like on a command line: one `Flag` per option, and words into values.

A flag is flat where its name is unique in the job (`--group_size`) and has the group in front where it is not
(`--policy.lora_r`); the form with groups is always accepted. Choices: no abbreviations (an option added later
must not change what an old command means), a dash and an underscore are the same in a name, a scalar given twice is an
error, and a word that is not understood names what was probably meant. Bounds and types stay in the model; this file
only reads them.
"""

from __future__ import annotations

import difflib
import functools
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from motions.base.errors import MistakesError
from motions.settings import LISTS, Settings, options_of

Value = str | bool | None | list[str]
"""Value of a flag before the model converts it."""

TRUE_WORDS = ("true", "yes", "on", "1")
FALSE_WORDS = ("false", "no", "off", "0")
REQUIRED = "required"


class UsageError(MistakesError):
    """An invalid command line or settings file."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One option of a command line."""

    name: str
    aliases: tuple[str, ...]
    """Further spellings without a dot."""
    kind: Literal["bool", "scalar", "list", "numbers"]
    legal: str
    """Type, choices and bounds as text: `integer >= 2`."""
    default: str
    """The default as text, or `REQUIRED`."""
    optional: bool
    """Whether the word `none` is legal."""
    nothing: Value = None
    """What it means: no value, or an empty list."""
    doc: str = ""
    group: str = ""
    """Dotted path of the group that holds the option."""
    heading: str = ""
    """First line of the docstring of the settings class that declares the option."""
    spellings: tuple[str, ...] = ()
    """All that are accepted."""


@dataclass(frozen=True, slots=True)
class ForeignFlag:
    """An option of another public tool's command line that is not a setting here.

    Example:
        ForeignFlag(accepted=("true",), reason="prompts are never cropped")
    """

    reason: str
    accepted: tuple[str, ...] = ()
    """Values that ask for the existing behaviour, `*` for all; any other value is an error."""
    same_number_as: str | None = None
    """Name of a setting that must be the same number where the command line gives it; `accepted` is then not asked."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """For `same_number_as`: the number that a value of that setting means; by default the value itself."""

    def accepts(self, value: str, given: Mapping[str, Value]) -> bool:
        """Whether a value asks for the existing behaviour.

        Args:
            given: the settings of the command line by their names.
        """
        other = given.get(self.same_number_as or "")
        wanted = self.numbers.get(str(other)) if self.numbers else other
        if wanted is not None and not isinstance(wanted, list):
            with suppress(ValueError):
                return float(value) == float(str(wanted))
            return False
        return "*" in self.accepted or value.lower() in self.accepted


@functools.cache
def flags_of(config: type[Settings]) -> Mapping[str, Flag]:
    """Flags by the dotted path of the option, in the order of the model's fields."""
    flags = {}
    for path, option in options_of(config).items():
        kind, legal, optional, nothing = _describe(option.field)
        flags[path] = Flag(
            name=option.flag,
            aliases=option.aliases,
            kind=kind,
            legal=legal,
            default=REQUIRED if option.field.is_required() else _default_text(option.field),
            optional=optional,
            nothing=nothing,
            doc=option.doc,
            group=path.rpartition(".")[0],
            heading=(option.owner.__doc__ or option.owner.__name__).strip().splitlines()[0].rstrip("."),
            spellings=option.spellings,
        )
    return flags


def names_of(flags: Mapping[str, Flag]) -> dict[str, str]:
    """Every accepted spelling -> key of the flag."""
    return {spelling: key for key, flag in flags.items() for spelling in (flag.name, *flag.aliases, *flag.spellings)}


def read_flags(
    argv: Sequence[str],
    flags: Mapping[str, Flag],
    foreign: Mapping[str, ForeignFlag] | None = None,
    notes: Callable[[str], None] = lambda _: None,
) -> dict[str, Value]:
    """Words of a command line as values by the flag's key in `flags`.

    Raises:
        UsageError: an unknown option, a word that belongs to no option, a missing value, a value given twice, or an
            option of another tool that asks for something unsupported.
    """
    spellings, foreign = names_of(flags), foreign or {}
    values: dict[str, Value] = {}
    written: dict[str, str] = {}
    seen: dict[str, str] = {}
    errors: list[str] = []
    for option, arguments in _options(argv):
        spelled = option.partition("=")[0]
        name = spelled[2:].replace("-", "_")
        taken, switch = 0, None
        try:
            if not option.startswith("--"):
                pass
            elif name in foreign:
                taken = min(1, len(arguments))
                seen[name] = arguments[0] if arguments else "true"
            else:
                key, negated = _resolve(name, spellings, flags, spelled)
                value, taken = _read_value(flags[key], arguments, negated, spelled)
                switch = flags[key] if not taken else None
                words = " ".join([spelled, *arguments[:taken]])
                before = values.get(key)
                if isinstance(before, list) and isinstance(value, list):
                    value = [*before, *value]
                elif key in values and not (value == before and words.split()[0] != written[key].split()[0]):
                    # Two spellings of one option may say the same.
                    raise UsageError([f"--{flags[key].name} is given twice: {written[key]} and {words}"])
                values[key], written[key] = value, words
        except UsageError as error:
            errors.extend(error.lines)
            taken = len(arguments)
        if arguments[taken:] or not option.startswith("--"):
            errors.append(_stray_words(option, arguments[taken:], spellings, flags, switch))
    for name, value in seen.items():
        flag = foreign[name]
        if flag.accepts(value, {spelling: values[key] for spelling, key in spellings.items() if key in values}):
            notes(f"--{name} {value} changes nothing: {flag.reason}")
        else:
            errors.append(f"--{name} {value} is not supported: {flag.reason}")
    if errors:
        raise UsageError(errors)
    return values


def known_flags(argv: Sequence[str], flags: Mapping[str, Flag]) -> dict[str, Value]:
    """Values of these flags only; all other words are passed over, and mistakes are left to `read_flags`."""
    spellings = names_of(flags)
    values: dict[str, Value] = {}
    for option, arguments in _options(argv):
        spelled = option.partition("=")[0]
        if (key := spellings.get(spelled[2:].replace("-", "_"))) is not None:
            with suppress(UsageError):
                value, before = _read_value(flags[key], arguments, False, spelled)[0], values.get(key)
                values[key] = [*before, *value] if isinstance(before, list) and isinstance(value, list) else value
    return values


def without(argv: Sequence[str], flags: Mapping[str, Flag], left_out: Collection[str]) -> tuple[list[str], set[str]]:
    """The words of a command line that `read_flags` accepts, without some options and their values.

    Args:
        left_out: keys of these options in `flags`.

    Returns:
        The other words in their order, and those of `left_out` that were there.
    """
    spellings, kept, found = names_of(flags), list[str](), set[str]()
    for option, arguments in _options(argv):
        spelled, joined, _ = option.partition("=")
        name = spelled[2:].replace("-", "_")
        key = spellings.get(name) or spellings.get(name.removeprefix("no_"), "")
        if key in left_out:
            found.add(key)
            kept += arguments[_read_value(flags[key], arguments, False, spelled)[1] :]
        else:
            kept += [*([option] if option else []), *(arguments[1:] if joined else arguments)]
    return kept, found


def unknown(word: str, name: str, flags: Mapping[str, Flag]) -> str:
    """What is wrong with an option that is none: it belongs to several groups, or which ones have names like it."""
    meant = [f"--{flag.name}" for flag in flags.values() if any(one.endswith(f".{name}") for one in flag.spellings)]
    if meant:
        return f"{word} could be any of {', '.join(meant)}; say which"
    plain = [spelling for flag in flags.values() for spelling in (flag.name, *flag.aliases)]
    near = difflib.get_close_matches(name, list(names_of(flags)) if "." in name else plain, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join('--' + spelling for spelling in near)}?" if near else ""
    return f"unknown option {word}{hint}"


def _options(argv: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Every option with the words after it; words before the first option belong to an empty one."""
    groups: list[tuple[str, list[str]]] = [("", [])]
    for word in argv:
        # A word that begins with a space and dashes comes from a stray backslash before that space.
        if word.lstrip().startswith("--") and len(word.strip()) > 2:
            groups.append((word, []))
            if word.startswith("--") and "=" in word:
                groups[-1][1].append(word.partition("=")[2])
        else:
            groups[-1][1].append(word)
    return groups if groups[0][1] else groups[1:]


def _resolve(name: str, spellings: Mapping[str, str], flags: Mapping[str, Flag], word: str) -> tuple[str, bool]:
    if name in spellings:
        return spellings[name], False
    positive = name.removeprefix("no_")
    if positive != name and positive in spellings:
        if flags[spellings[positive]].kind != "bool":
            raise UsageError([f"{word}: only a switch can be turned off with --no_; {positive} takes a value"])
        return spellings[positive], True
    first, _, rest = name.partition(" ")
    if rest and first in spellings:
        raise UsageError([f"{word!r} is one word; did you mean --{first} {rest} without quotes around it?"])
    raise UsageError([unknown(word, name, flags)])


def is_none(flag: Flag, word: object) -> bool:
    """Whether a text says that an option has no value."""
    return flag.optional and isinstance(word, str) and word.lower() in ("none", "null")


def _read_value(flag: Flag, arguments: list[str], negated: bool, word: str) -> tuple[Value, int]:
    """The value, and the number of words that it took."""
    if flag.kind == "bool":
        given = arguments[0].lower() if arguments else ""
        if given in TRUE_WORDS:
            return not negated, 1
        if given in FALSE_WORDS:
            return negated, 1
        if flag.optional and given == "none":
            return None, 1
        return not negated, 0
    if not arguments:
        raise UsageError([f"{word} needs a value: {flag.legal}"])
    # Several words are values, even if one of them is "none".
    if is_none(flag, arguments[0]) and (flag.kind == "scalar" or len(arguments) == 1):
        return flag.nothing, 1
    if flag.kind == "list":
        return list(arguments), len(arguments)
    if flag.kind == "numbers":
        return [part for argument in arguments for part in argument.split(",") if part], len(arguments)
    return arguments[0], 1


def shown(value: object) -> str:
    """A value as the command line spells it."""
    if isinstance(value, (list, tuple)):
        return " ".join(map(shown, value)) or "none"
    return str(value).lower() if isinstance(value, bool) or value is None else str(value) or "''"


def _stray_words(
    option: str, words: Sequence[str], spellings: Mapping[str, str], flags: Mapping[str, Flag], switch: Flag | None
) -> str:
    """What is wrong with words that no option has taken.

    Args:
        switch: the option before them, if it is one that has taken none.
    """
    if option and not option.startswith("--"):
        return (
            f"{option!r}: a backslash stands before {option.strip()}; a backslash continues a command only as the last "
            "character of its line"
        )
    name = words[0].lstrip("-").replace("-", "_")
    if name in spellings:
        meant = " ".join([f"--{flags[spellings[name]].name}", *words[1:]])
        return f"unexpected '{' '.join(words)}': did you mean {meant}?"
    if switch is not None:
        return f"{option.partition('=')[0]} {shown(words[0])}: expected {switch.legal}"
    behind = f" (behind {option})" if option else ""
    return f"unexpected word {words[0]!r}{behind}: options start with --, and a value with spaces needs quotes"


def _describe(field: FieldInfo) -> tuple[Literal["bool", "scalar", "list", "numbers"], str, bool, Value]:
    """Kind, legal values as text, whether `none` is legal, and what it means."""
    annotation, metadata = _bare(field.annotation)
    metadata = [*field.metadata, *metadata]
    options: list[Any] = [annotation]
    if get_origin(annotation) in (typing.Union, types.UnionType):
        options = list(get_args(annotation))
    optional = type(None) in options
    options = [option for option in options if option is not type(None)]
    lists = [option for option in options if get_origin(option) in LISTS]
    if not lists:
        words = " or ".join(_type_words(option) for option in options) + _bounds_words(metadata)
        return ("bool" if options == [bool] else "scalar"), words + (" or none" if optional else ""), optional, None
    least = max((bound.min_length for bound in metadata if isinstance(bound, annotated_types.MinLen)), default=0)
    words = " or ".join(_list_words(option, least) if option in lists else _type_words(option) for option in options)
    inner = [_bare(item)[0] for option in lists for item in get_args(option) if item is not Ellipsis]
    fixed = any(get_origin(option) is tuple and Ellipsis not in get_args(option) for option in lists)
    empty = not optional and not fixed and not least
    return (
        "numbers" if all(item in (int, float) for item in inner) else "list",
        words + (", or none" if optional or empty else ""),
        optional or empty,
        [] if empty else None,
    )


def _bare(annotation: Any) -> tuple[Any, list[Any]]:
    """A type without what `Annotated` adds, and that."""
    if get_origin(annotation) is typing.Annotated:
        inner, *marks = get_args(annotation)
        return inner, [bound for mark in marks for bound in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]
    return annotation, []


def _list_words(option: Any, least: int) -> str:
    items = [item for item in get_args(option) if item is not Ellipsis]
    count = "one or more " if least == 1 else f"at least {least} " if least else ""
    if get_origin(option) is tuple and Ellipsis not in get_args(option):
        count = f"{len(items)} "
    words = " or ".join(_plural(item) for item in dict.fromkeys(items))
    return f"any {words}" if not count and words.startswith("of ") else count + words


def _plural(item: Any) -> str:
    kind, metadata = _bare(item)
    if get_origin(kind) is Literal:
        return f"of {', '.join(map(str, get_args(kind)))}"
    return f"{_type_words(kind)}s{_bounds_words(metadata)}"


def _type_words(option: Any) -> str:
    kind, metadata = _bare(option)
    if get_origin(kind) is Literal:
        choices = ", ".join(map(str, get_args(kind)))
        return f"one of {choices}" if len(get_args(kind)) > 1 else choices
    names = {int: "integer", float: "number", str: "text", Path: "path", bool: "true or false"}
    return names.get(kind, getattr(kind, "__name__", str(kind))) + _bounds_words(metadata)


def _bounds_words(metadata: Sequence[Any]) -> str:
    words = []
    for bound in metadata:
        if isinstance(bound, annotated_types.Ge):
            words.append(f">= {bound.ge}")
        elif isinstance(bound, annotated_types.Gt):
            words.append(f"> {bound.gt}")
        elif isinstance(bound, annotated_types.Le):
            words.append(f"<= {bound.le}")
        elif isinstance(bound, annotated_types.Lt):
            words.append(f"< {bound.lt}")
        elif isinstance(bound, annotated_types.MinLen):
            words.append("that is not empty" if bound.min_length == 1 else f"of at least {bound.min_length} characters")
        elif isinstance(bound, annotated_types.MaxLen):
            words.append(f"of at most {bound.max_length} characters")
    return " " + " and ".join(words) if words else ""


def _default_text(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if isinstance(default, str) and not default:
        return "empty"
    return shown(tuple(default) if isinstance(default, (set, frozenset)) else default)
