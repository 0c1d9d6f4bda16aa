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


REQUIRED = ("Source", "Equation", "Reduces to")
SECTIONS = (*REQUIRED, "Args", "Raises")


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
    items = re.split(r"^- ", sections["Reduces to"], flags=re.MULTILINE)
    return Card(
        name=method.name(),
        title=method.title,
        about=_joined(sections[""]),
        source=_joined(sections["Source"]),
        equation=tuple(sections["Equation"].splitlines()),
        settings=settings(method),
        departures=method.departures,
        reductions=tuple(_joined(item).removesuffix(".") for item in items if item),
    )


def settings(owner: type) -> tuple[Setting, ...]:
    """Returns the fields of a dataclass with what its docstring says of each under `Args:`.

    Args:
        owner: A method, or the recipe.

    Raises:
        RequestError: A field has no meaning there, a meaning has no field, or a name is there twice.
    """
    kinds, meanings = fields.types(owner), _entries(owner, r"\w+", _sections(owner).get("Args", ""))
    if above := meanings.pop(""):
        raise _malformed(owner, f"Args has the line {above.splitlines()[0]!r}", "name: meaning, more lines indented")
    if unexpected := [name for name in (*kinds, *meanings) if (name in kinds) != (name in meanings)]:
        what = "has no meaning under Args" if unexpected[0] in kinds else "is under Args and no field"
        raise _malformed(owner, f"{unexpected[0]} {what}", f"the fields: {', '.join(kinds) or 'none'}")
    return tuple(
        Setting(
            field.name,
            None if field.default is dataclasses.MISSING else fields.text(field.default),
            fields.describe(kinds[field.name], getattr(owner, "bounds", {}).get(field.name)),
            _joined(meanings[field.name]),
        )
        for field in dataclasses.fields(owner)
    )


def _sections(owner: type) -> dict[str, str]:
    """Returns the text of each section of a docstring; of the description under ""."""
    known = "|".join(SECTIONS)
    sections = _entries(owner, rf"{known}|[A-Z][a-z ]+(?=:$)", inspect.cleandoc(owner.__doc__ or ""))
    if unknown := [title for title in sections if title not in ("", *SECTIONS)]:
        raise _malformed(owner, f"a section {unknown[0]}", f"the sections {', '.join(SECTIONS)}")
    return sections


def _entries(owner: type, title: str, text: str) -> dict[str, str]:
    """Returns the text after each "TITLE:" at the beginning of a line, dedented; that above the first under "".

    Args:
        owner: Whose docstring it is.
        title: A regular expression.
        text: Whose lines of an entry are indented, but the first.
    """
    above, *rest = re.split(rf"^({title}):(?=\s|\Z)", text, flags=re.MULTILINE)
    entries = {"": above.strip()}
    for name, entry in zip(rest[::2], rest[1::2], strict=True):
        if name in entries:
            raise _malformed(owner, f"{name} is there twice", "each section and each field once")
        if outside := re.search(r"\n(\S.*)", entry):
            raise _malformed(
                owner, f"the line {outside[1]!r} after {name} is not indented", "indented lines below a title"
            )
        if not entry.strip():
            raise _malformed(owner, f"nothing after {name}", "at least one line")
        entries[name] = inspect.cleandoc(entry)
    return entries


def _joined(text: str) -> str:
    return " ".join(text.split())


def _malformed(owner: type, what: str, allowed: str) -> RequestError:
    return RequestError(f"docstring of {owner.__name__}: {what}", f"allowed: {allowed}")
