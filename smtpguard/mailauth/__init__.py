"""Sender authentication, one file a standard: SPF, DKIM, DMARC. A pure parser each, then a check over a resolver.

Nothing here opens a socket or knows a clock: the `dns.Resolver` and `now` are passed in, and what DNS could not say
is temperror, never "none" or "fail".
"""
