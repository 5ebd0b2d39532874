"""A few cases of each target, in every run of the tests; `make fuzz` plays many."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS
from tests.fuzz.words import WORDS


def octets_of(language: str) -> st.SearchStrategy[bytes]:
    """Words of a language in any order, with some octets of no language between them."""
    return st.lists(st.sampled_from(WORDS[language]) | st.binary(max_size=4), max_size=30).map(b"".join)


@pytest.mark.parametrize("name", TARGETS)
def test_no_octets_break_it(name: str) -> None:
    target = TARGETS[name]
    for octets in target.findings:
        target.read(octets)

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), database=None)
    @given(octets_of(target.language))
    def play(octets: bytes) -> None:
        target.read(octets)

    play()


@pytest.mark.parametrize("name", TARGETS)
def test_words_of_a_language_are_read_beyond_the_first_check(name: str) -> None:
    """Each word alone, and all of them in a row, so that no target is fed what it never looks at."""
    target = TARGETS[name]
    for word in WORDS[target.language]:
        target.read(word)
    target.read(b"".join(WORDS[target.language]))
