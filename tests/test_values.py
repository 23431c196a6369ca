"""Values that the garbage collector does not look at (msgspec's ``gc=False``, which makes them cheap)."""

from __future__ import annotations

import importlib
import pkgutil
import types
import typing
from collections.abc import Callable, Iterator

import msgspec
import pytest

import hornetmail

SAFE = (int, float, str, bytes, bool, type(None))


def structs() -> Iterator[type[msgspec.Struct]]:
    """All that are declared so."""
    for module in pkgutil.walk_packages(hornetmail.__path__, "hornetmail."):
        if module.name.endswith("__main__"):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if (
                isinstance(value, type)
                and issubclass(value, msgspec.Struct)
                and value.__module__ == module.name
                and not value.__struct_config__.gc
            ):
                yield value


def parts(kind: object) -> Iterator[object]:
    """The classes that a field's type is made of."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType, typing.Annotated, tuple, frozenset, dict, list, set, typing.Literal):
        for each in typing.get_args(kind):
            yield from parts(each)
    else:
        yield kind


@pytest.mark.parametrize(
    "struct", sorted(structs(), key=lambda each: (each.__module__, each.__name__)), ids=lambda each: each.__qualname__
)
def test_nothing_in_it_leads_back(struct: type[msgspec.Struct]) -> None:
    """Would catch a value that holds a callback, and so whatever that belongs to, for ever: neither is freed (a database's watch held a whole archive)."""
    for name, kind in typing.get_type_hints(struct).items():
        for each in parts(kind):
            assert typing.get_origin(each) is not Callable, f"{name} is a callback"
            assert each not in (object, typing.Any), f"{name} may be anything"
