"""A value that is worked out once, and again when it was let go."""

from __future__ import annotations

from smtpguard.mail.once import once


class Counted:
    """Counts how often its value is worked out."""

    def __init__(self) -> None:
        self.times = 0

    @once
    def value(self) -> int:
        """Some number."""
        self.times += 1
        return self.times


def test_it_is_worked_out_when_asked_for_and_kept() -> None:
    counted = Counted()
    assert counted.times == 0
    assert [counted.value, counted.value] == [1, 1]


def test_what_was_let_go_is_worked_out_again() -> None:
    counted = Counted()
    assert counted.value == 1
    del counted.__dict__["value"]
    assert counted.value == 2


def test_each_object_has_its_own() -> None:
    one, other = Counted(), Counted()
    one.times = 5
    assert (one.value, other.value) == (6, 1)


def test_the_class_has_what_makes_it() -> None:
    assert Counted.value.__doc__ == "Some number."
