"""A value that is worked out when it is first asked for, and kept on its object from then on.

As `functools.cached_property`, without the lock around it that Python 3.11 still takes: a third of the time, and a
message has seven of them. What two threads ask at once is worked out twice; it is the same each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

V = TypeVar("V")


class once(Generic[V]):  # noqa: N801 (a decorator, like property)
    """A method of no arguments as an attribute; its value stands in the object's `__dict__`, from where it may go."""

    def __init__(self, work: Callable[[Any], V]) -> None:
        self.work = work
        self.name = work.__name__
        self.__doc__ = work.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> once[V]: ...
    @overload
    def __get__(self, owner: object, kind: type) -> V: ...
    def __get__(self, owner: Any, kind: type) -> once[V] | V:
        """The value; of the class the decorator itself."""
        if owner is None:
            return self
        value = owner.__dict__[self.name] = self.work(owner)
        return value
