"""An operator's own rules in the running relay: they win, a reload takes them anew, and a bad file changes nothing."""

from __future__ import annotations

from tests.harness import Client, Guard, relay

RULE = """
[[rule]]
id = "partner.quota"
category = "{0}"
pattern = 'sandbox refuses|5\\.1\\.1|.'
code = ["5xx"]
examples = ["550 5.1.1 User unknown"]
"""
CONFIG = '[classify]\nrules = "{dir}/own.toml"\n'


async def category(guard: Guard, count: int) -> str:
    """What the log says of one more refusal, the `count`th."""
    async with Client(guard.smtp) as client:
        await client.greet()
        reply = await client.say("MAIL FROM:<a@s.example>", "RCPT TO:<550-5.1.1@r.example>")
        assert reply[0].startswith("550")
        await client.say("QUIT")
    return str((await guard.events("recipient-refused", count))[-1]["smtpguard.category"])


async def test_own_rules_win_and_are_reloaded_all_or_nothing() -> None:
    async with relay(more=CONFIG, files={"own.toml": RULE.format("rate.limited")}) as guard:
        own = guard.config.parent / "own.toml"
        assert await category(guard, 1) == "rate.limited"
        own.write_text(RULE.format("sender.blocked"))
        assert await category(guard, 2) == "rate.limited"  # nobody asked for a reload yet
        assert await guard.service.reload()
        assert await category(guard, 3) == "sender.blocked"
        own.write_text(RULE.format("sender.blokt"))
        assert not await guard.service.reload()
        [*_, event] = await guard.events("config-reloaded", 2)
        assert event["event.outcome"] == "failure"
        assert "partner.quota: unknown category 'sender.blokt'" in event["message"]
        assert await category(guard, 4) == "sender.blocked"
        guard.config.write_text(guard.config.read_text().partition("[classify]")[0])
        assert await guard.service.reload()
        assert await category(guard, 5) == "recipient.unknown"
