"""Chaos: the real program between an MTA that keeps accounts and a next hop that misbehaves (`make chaos`).

    python -m tests.chaos [--quick] [--seconds N] [--messages N] [--only CASE] [--seed N] [--json FILE]

hop.py       the next hop: every fault at every point of the dialogue, and what it took, by attempt
mta.py       the client: many sessions on both doors, retries until each recipient is answered for good
ledger.py    what was said against what was taken: the laws L, D, B, T, W and V of the design, as sums
guard.py     `smtpguard serve` as a process: its log watched line by line, ended and begun again on the same ports
stage.py     what every case stands on
misdeeds.py  what the next hop does to it
troubles.py  what its machine does to it
wanderers.py what clients without sense do to it
real.py      the same with Postfix as the client
cases.py     all of them by name: a case a row of the report
__main__     the command: a table, JSON, and exit code 1 where a law was broken

An attempt is known by number on both sides (the message says which one it is), so that each copy at the next hop is
either the one that a 250 of ours stands for, or one whose answer was cut off on purpose (RFC 1047), or a violation.
The seed decides what is done, not when: two runs play the same faults, in another order where sockets race.
"""
