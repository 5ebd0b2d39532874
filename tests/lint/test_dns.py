"""DNS001: what could not be looked up is said, and nothing else is."""

from __future__ import annotations

from smtpguard.lint.facts import DnsFaults
from tests.lint.asking import ask


def test_dns_temperror() -> None:
    assert ask("DNS001", DnsFaults(())) == []
    (finding,) = ask("DNS001", DnsFaults((("TXT of example.com", "servfail"),)))
    assert finding.message == "could not be looked up: TXT of example.com (servfail)"
    (finding,) = ask("DNS001", DnsFaults(tuple((f"A of {n}.example", "timeout") for n in range(5))))
    assert finding.message.endswith("A of 2.example (timeout) and 2 more")
    assert (finding.severity.value, str(finding.answer)) == ("info", "451 4.4.3")
