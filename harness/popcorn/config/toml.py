# SPDX-License-Identifier: Apache-2.0
"""Reading TOML into a model, with errors that name the line."""

from __future__ import annotations

import difflib
import re
import tomllib
import typing
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from popcorn.errors import UserError

M = TypeVar("M", bound=BaseModel)
Place = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[\[?)([^\[\]]+)\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=")


def read_toml(path: Path, model: type[M]) -> M:
    """Read a TOML file into a model.

    Raises:
        UserError: the file cannot be read, is no TOML, or does not fit the model.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return parse_toml(text, model, str(path))


def parse_toml(text: str, model: type[M], name: str) -> M:
    """The model that a TOML text describes; ``name`` is what errors call the text."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # beside TOML's own errors: numbers and nesting without end
        match = re.search(r"(.*) \(at line (\d+), column (\d+)\)", str(error))
        place = f"{name}:{match[2]}:{match[3]}" if match else name
        raise UserError(
            f"{place}: {match[1] if match else error}", hint="correct the TOML syntax at this place"
        ) from error
    try:
        return model.model_validate(document)
    except ValidationError as error:
        line = line_of(text, _first(error)["loc"])
        raise model_error(error, model, f"{name}:{line}" if line else name) from error


def model_error(validation: ValidationError, model: type[BaseModel], where: str) -> UserError:
    """Pydantic's error as ours, with the nearest valid name for a name that is none."""
    error = _first(validation)
    place = shown_place(error["loc"])
    kind = error["type"]
    if kind == "extra_forbidden":
        names = _field_names(model, error["loc"][:-1])
        key = str(error["loc"][-1])
        near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(names)}"
        return UserError(f"{where}: unknown key {place!r}", hint=hint)
    if kind == "missing":
        last = error["loc"][-1]
        hint = f"the list needs at least {last + 1} entries" if isinstance(last, int) else f"add {last} = … there"
        return UserError(f"{where}: {place!r} is missing", hint=hint)
    message = error["msg"].removeprefix("Value error, ")
    found = f", found {error['input']!r}" if kind != "value_error" else ""
    return UserError(f"{where}: {place + ': ' if place else ''}{message}{found}")


def _first(validation: ValidationError) -> ErrorDetails:
    """The error to tell: a name that is not known explains the one that is missing."""
    return min(validation.errors(), key=lambda error: error["type"] != "extra_forbidden")


def shown_place(place: Place) -> str:
    """``nodes[2].memory``, nodes counted from 0."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def line_of(text: str, place: Place) -> int | None:
    """The line of the key at a place, or of the nearest thing around it."""
    lines = _key_lines(text)
    for length in range(len(place), 0, -1):
        if place[:length] in lines:
            return lines[place[:length]]
    return None


def _key_lines(text: str) -> dict[Place, int]:
    """Where each key and table of a TOML text stands. Strings over several lines may be taken for keys."""
    lines: dict[Place, int] = {}
    tables: Counter[Place] = Counter()
    current: Place = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.fullmatch(line)
        if header:
            current = _with_indexes(_parts(header[2]), tables)
            if header[1] == "[[":
                tables[current] += 1
                current = (*current, tables[current] - 1)
            lines.setdefault(current, number)
            continue
        key = _KEY.match(line)
        if key:
            place = (*current, *_parts(key[1]))
            lines.setdefault(place, number)
    return lines


def _with_indexes(parts: Iterable[str], tables: Counter[Place]) -> Place:
    """A table's name with the index of the array element it is in: ``a.b`` after ``[[a]]`` is ``a[0].b``."""
    place: Place = ()
    names = list(parts)
    for position, part in enumerate(names):
        place = (*place, part)
        if position < len(names) - 1 and tables[place]:
            place = (*place, tables[place] - 1)
    return place


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", dotted))


def _field_names(model: type[BaseModel], place: Place) -> list[str]:
    """The names that are known in the model at a place."""
    current = model
    for part in place:
        if isinstance(part, str) and part in current.model_fields:
            inner = _model_in(current.model_fields[part].annotation)
            if inner is None:
                return []
            current = inner
    return [field.alias or name for name, field in current.model_fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in typing.get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
