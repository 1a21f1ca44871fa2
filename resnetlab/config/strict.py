"""Strict and frozen values from plain ones: unknown keys and wrong types are refused by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)


class WordedError(Exception):
    """An error that says all in its message: in a notebook it is that message, without a traceback."""

    code = 1  # with which the command leaves

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(WordedError, ValueError):
    """The caller asked for something that cannot be; the message says what, where and what to do."""

    code = 2


def expanded(path: str | Path) -> Path:
    """The path with ~ and ~USER spelt out. UsageError for a user whom this machine does not know."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{path}: this machine knows no such user's home") from None


MOST_NAMES = 20  # that a message lists


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'depth'?"` for the known name that is meant, or the list of them.

    That is the only one in which `word`, or each of its words, stands, else the nearest in spelling;
    capitals count as small letters. A number is near to nothing: it is a depth, a seed or a notebook's,
    and another one is another thing.
    """
    names = list(known)
    small = {name: name.lower() for name in names}
    parts = [word.lower()], re.findall(r"[^\W_]+", word.lower())
    hits = ([n for n in names if all(part in small[n] for part in those)] for those in parts if word)
    near = next(filter(None, hits), [])
    if len(near) != 1 and not word.isdecimal():
        spelt = {small[name]: name for name in reversed(near or names)}
        close = difflib.get_close_matches(word.lower(), spelt, n=1, cutoff=0.5)
        near = [spelt[name] for name in close] or near
    if len(near) == 1:
        return f"; did you mean {near[0]!r}?"
    names = near or names
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"; known: {', '.join(names[:MOST_NAMES])}{more}"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    unwritten: ClassVar[tuple[str, ...]] = ()  # fields that are not written at their default

    def _usual(self) -> Mapping[str, Any]:
        """Fields that are not written when they have this value."""
        return {name: type(self).model_fields[name].default for name in self.unwritten}

    def _mistakes(self) -> Iterator[str]:
        """What is wrong with the fields together, a sentence each; the first one is raised."""
        yield from ()

    @model_validator(mode="after")
    def _no_mistake(self) -> Self:
        for mistake in self._mistakes():
            raise ValueError(mistake)
        return self

    @model_serializer(mode="wrap")
    def _leave_out_usual(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Choices that came later stay unwritten at their usual value: older runs keep their hash."""
        usual = self._usual()
        written: dict[str, Any] = write(self)
        return {k: v for k, v in written.items() if k not in usual or getattr(self, k) != usual[k]}

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain values (JSON, notebook parameters).

        Raises UsageError naming the field, the value and, for an unknown key, the nearest known one.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise UsageError(_explain(error, cls)) from None


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            owner = model
            for part in item["loc"][:-1]:
                kind: Any = owner.model_fields[str(part)].annotation
                owner = next(  # of `Surgery | None` the model
                    one for one in (*get_args(kind), kind) if one is not type(None)
                )
            hint = did_you_mean(str(item["loc"][-1]), owner.model_fields)
            lines.append(f"unknown parameter {where!r}{hint}")
        elif item["type"] == "value_error":
            lines.append(str(item["ctx"]["error"]))
        else:
            got = f"{item['input']!r} ({type(item['input']).__name__})"
            message = item["msg"][0].lower() + item["msg"][1:]
            lines.append(f"{where or model.__name__}: {message}, got {got}")
    return "\n".join(lines)
