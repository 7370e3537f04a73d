# SPDX-License-Identifier: Apache-2.0
"""The machines that come with Popcorn, and reading those of others."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

from pydantic import ValidationError

from popcorn.config.machine import Machine
from popcorn.config.toml import model_error, read_toml
from popcorn.errors import UserError


def machine_names() -> list[str]:
    """The names that `load_machine` knows."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.toml"))


def load_machine(name_or_path: str | Path) -> Machine:
    """The machine of a name, or that a TOML or JSON file describes.

    Raises:
        UserError: there is none, or its description is wrong.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, str) and text in machine_names():
        return read_toml(Path(__file__).parent / f"{text}.toml", Machine)
    path = Path(text)
    if not path.is_file():
        if "/" in text or path.suffix:
            raise UserError(f"there is no machine description {path}", hint=_known())
        near = difflib.get_close_matches(text, machine_names(), n=1)
        raise UserError(f"unknown machine {text!r}", hint=f"did you mean {near[0]!r}?" if near else _known())
    if path.suffix == ".json":
        return _read_json(path)
    return read_toml(path, Machine)


def _known() -> str:
    return f"machines are {', '.join(machine_names())}, or the path of a TOML file (`popcorn probe` writes one)"


def _read_json(path: Path) -> Machine:
    try:
        return Machine.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise model_error(error, Machine, str(path)) from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
