"""Whether the smtpguard of this container takes mail: exit 0 if `/readyz` says so, else 1 and why.

It reads the same settings as the service, so that it knows the address and the token of `[http]`. Where HTTP is off, a
door that accepts a connection is all that can be seen.
"""

from __future__ import annotations

import os
import socket
import sys
import urllib.request

from smtpguard.config import ListenAddress, load

PATIENCE_S = 4.0  # less than the HEALTHCHECK's own


def local(address: ListenAddress) -> str:
    """The host to ask: where the service listens on all addresses, the loopback is one of them."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(address.host, address.host)  # noqa: S104
    return f"[{host}]" if ":" in host else host


def main() -> int:
    """The exit code."""
    settings = load(None, os.environ, sandbox=True).settings  # sandbox: a next hop need not be known here
    http = settings.http
    try:
        if http.listen is not None:
            request = urllib.request.Request(f"http://{local(http.listen)}:{http.listen.port}/readyz")
            if http.token is not None:
                request.add_header("Authorization", f"Bearer {http.token.get_secret_value()}")
            urllib.request.urlopen(request, timeout=PATIENCE_S).close()  # noqa: S310 (http above)
        else:
            door = (*settings.listen.smtp, *settings.listen.lmtp)[0]
            if door.path:
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(door.path)
            else:
                socket.create_connection((local(door).strip("[]"), door.port), PATIENCE_S).close()
    except OSError as problem:  # urllib's own are OSErrors too
        print(f"not ready: {problem}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
