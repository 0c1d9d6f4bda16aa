"""The card of a method: what its docstring and its departures say of it, as data; they are the single source.

A method's docstring has a description, the sections `Source:`, `Equation:` and `Reduces to:`, and under `Args:` an
entry for each field. A section begins on the line of its title or below it; lines may break anywhere.
"""

import dataclasses
import inspect
import re
from dataclasses import dataclass

from lt_repro import fields
from lt_repro.errors import RequestError
from lt_repro.methods.base import Departure, Method


@dataclass(frozen=True)
class Setting:
    """A field of a dataclass, and what it means.

    Args:
        name: As typed in `--set name=value`.
        default: As typed; None where there is none.
        allowed: Its values, in words.
        meaning: In one or more sentences.
    """

    name: str
    default: str | None
    allowed: str
    meaning: str


@dataclass(frozen=True)
class Card:
    """All that a method says of itself.

    Args:
        name: The registry's name.
        title: The method's name in print.
        about: What the method is, in one or more sentences.
        source: The paper.
        equation: Its lines, in their alignment.
        settings: One per field, in the order of the fields.
        departures: As it declares them.
        reductions: What the method is equal to at some settings.
    """

    name: str
    title: str
    about: str
    source: str
    equation: tuple[str, ...]
    settings: tuple[Setting, ...]
    departures: tuple[Departure, ...]
    reductions: tuple[str, ...]


SECTIONS = ("Source", "Equation", "Reduces to", "Args", "Raises")
REQUIRED = SECTIONS[:3]

_TITLE = re.compile(r"([A-Z][a-z]+(?: [a-z]+)*):(?= |$)(.*)")
_ARGUMENT = re.compile(r"(\w+):(| .*)")


def card(method: type[Method]) -> Card:
    """Returns the card of a method.

    Raises:
        RequestError: Its docstring has not the form above.
    """
    sections = _sections(method)
    if missing := [title for title in REQUIRED if title not in sections]:
        raise _malformed(method, f"no section {missing[0]}", f"the sections {', '.join(REQUIRED)}")
    if not sections[""]:
        raise _malformed(method, "no description", "a sentence above the sections")
    return Card(
        name=method.name(),
        title=method.title,
        about=_joined(sections[""]),
        source=_joined(sections["Source"]),
        equation=tuple(sections["Equation"]),
        settings=settings(method),
        departures=method.departures,
        reductions=_items(sections["Reduces to"]),
    )


def settings(owner: type) -> tuple[Setting, ...]:
    """Returns the fields of a dataclass with what its docstring says of each under `Args:`.

    Args:
        owner: A method, or the recipe.

    Raises:
        RequestError: A field has no meaning there, a meaning has no field, or a name is there twice.
    """
    meanings: dict[str, list[str]] = {}
    entry: list[str] = []
    for line in _sections(owner).get("Args", []):
        if result := _ARGUMENT.fullmatch(line):  # continued lines are indented
            if result[1] in meanings:
                raise _malformed(owner, f"{result[1]} is twice under Args", "each field once")
            entry = meanings[result[1]] = [result[2]]
        elif entry and line[:1] in (" ", ""):
            entry.append(line)
        else:
            raise _malformed(owner, f"Args has the line {line!r}", "name: meaning, continued lines indented")
    kinds, texts = fields.types(owner), {name: _joined(lines) for name, lines in meanings.items()}
    if unexpected := [name for name in (*kinds, *texts) if name not in kinds or not texts.get(name)]:
        what = "has no meaning under Args" if unexpected[0] in kinds else "is under Args and no field"
        raise _malformed(owner, f"{unexpected[0]} {what}", f"the fields: {', '.join(kinds) or 'none'}")
    return tuple(
        Setting(field.name, _default(field), fields.describe(kinds[field.name]), texts[field.name])
        for field in dataclasses.fields(owner)
    )


def _default(field: "dataclasses.Field[object]") -> str | None:
    return None if field.default is dataclasses.MISSING else fields.text(field.default)


def _sections(owner: type) -> dict[str, list[str]]:
    """Returns the lines of each section of a docstring, without their common indentation; the description is ""."""
    texts: dict[str, list[str]] = {"": []}
    title = ""
    for line in inspect.cleandoc(owner.__doc__ or "").splitlines():
        result = _TITLE.fullmatch(line)
        if result and (result[1] in SECTIONS or not result[2]):
            title = result[1]
            if title not in SECTIONS:
                raise _malformed(owner, f"a section {title}", f"the sections {', '.join(SECTIONS)}")
            if title in texts:
                raise _malformed(owner, f"the section {title} is there twice", "each section once")
            texts[title] = [result[2]]
        elif title and line and not line.startswith(" "):
            raise _malformed(owner, f"the line {line!r} is in no section", "indented lines below a section's title")
        else:
            texts[title].append(line)
    sections = {title: inspect.cleandoc("\n".join(lines)).splitlines() for title, lines in texts.items()}
    if empty := [title for title, lines in sections.items() if title and not any(lines)]:
        raise _malformed(owner, f"nothing in the section {empty[0]}", "at least one line")
    return sections


def _sentence(text: str) -> str:
    """Returns a text as it is shown in a cell, without its last full stop."""
    return text.strip().removesuffix(".")


def _items(lines: list[str]) -> tuple[str, ...]:
    """Returns the items of a list with hyphens, or the whole text where it is no list."""
    items: list[list[str]] = []
    for line in lines:
        if line.startswith("- ") or not items:
            items.append([line.removeprefix("- ")])
        else:
            items[-1].append(line)
    return tuple(_sentence(_joined(item)) for item in items)


def _joined(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


def _malformed(owner: type, what: str, allowed: str) -> RequestError:
    return RequestError(f"docstring of {owner.__name__}: {what}", f"allowed: {allowed}")
