"""From settings to a running relay.

service.py  one relay: build, start, reload, drain, stop
hops.py     its next hops
journal.py  where a transaction is told
reading.py  how refusals are read
memory.py   its history, and what policy remembers
program.py  the process around it: signals, systemd, exit code
"""

from smtpguard.service.program import run
from smtpguard.service.service import CannotStart, Service

__all__ = ["CannotStart", "Service", "run"]
