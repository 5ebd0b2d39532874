"""The benchmark: what smtpguard costs, beside others in the same place, measured in the same run.

    python -m tests.bench [--quick] [--only CASE] [--json FILE]

A load (`smtp-source`, or the client of our own) speaks to a peer, the peer to a sink (`smtp-sink`, or the sandbox in a
process of its own); all on loopback. `peers` and `postfixes` are what stands in the middle, `cases` and `singles` what
is measured, `budgets` what is demanded. Absolute times belong to a machine and an hour; so every figure that counts is
a ratio to Postfix's `smtpd_proxy_filter` in the same repetition, and of the repetitions the median. Nothing is timed
before `fidelity` saw that the messages arrive octet for octet.
"""
