"""Fetches MTA-STS policies (RFC 8461 3.3): https with the certificate checked, no redirect, MAX_POLICY octets at most.

Names are looked up by the resolver that asks for everything else; no proxy, no cookie, nothing of the environment.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from smtpguard.audit.inbound import NoFile
from smtpguard.mailauth.dns import Resolver
from smtpguard.mailauth.mtasts import MAX_POLICY

FETCH_S: Final = 10.0
"""For all of it; RFC 8461 3.3 lets senders wait a minute, a person does not."""


class _Names(AbstractResolver):
    """aiohttp's way to ask our resolver. `port` takes the place of the one in the address."""

    def __init__(self, resolver: Resolver, port: int) -> None:
        self._resolver = resolver
        self._port = port

    async def resolve(
        self,
        host: str,
        port: int = 0,  # noqa: ARG002 - aiohttp's; it is always https
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - aiohttp's; both are tried
    ) -> list[ResolveResult]:
        v4, v6 = await asyncio.gather(self._resolver.a(host), self._resolver.aaaa(host))
        found = [*((each, socket.AF_INET) for each in v4.records), *((each, socket.AF_INET6) for each in v6.records)]
        if not found:
            fault = v4.fault or v6.fault
            raise OSError(None, f"could not be looked up ({fault})" if fault else "has no address")
        return [
            ResolveResult(
                hostname=host, host=str(address), port=self._port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
            )
            for address, kind in found
        ]

    async def close(self) -> None:
        """The resolver is its maker's."""


class PolicyFiles:
    """Fetches by `await files(url)`. `context`: whom to trust, by default the system's authorities."""

    def __init__(self, resolver: Resolver, *, context: ssl.SSLContext | None = None, port: int = 443) -> None:
        self._names = _Names(resolver, port)
        self._context = context or ssl.create_default_context()

    async def __call__(self, url: str) -> bytes | NoFile:
        """The file, one octet more than MAX_POLICY at most; NoFile says why there is none. Never raises."""
        connector = aiohttp.TCPConnector(resolver=self._names, ssl=self._context, use_dns_cache=False)
        timeout = aiohttp.ClientTimeout(total=FETCH_S)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                if response.status != 200:  # RFC 8461 3.3: redirects must not be followed
                    return NoFile(f"{url} answers {response.status}")
                octets = bytearray()
                async for piece in response.content.iter_any():
                    octets += piece
                    if len(octets) > MAX_POLICY:
                        return bytes(octets[: MAX_POLICY + 1])
                return bytes(octets)
        except TimeoutError:
            return NoFile(f"{url} does not answer within {FETCH_S:g} s")
        except aiohttp.ClientConnectorCertificateError as error:
            return NoFile(f"{url}: {_reason(error.certificate_error)}")
        except aiohttp.ClientConnectorError as error:
            return NoFile(f"{url}: {_reason(error.os_error)}")
        except aiohttp.ClientError as error:
            return NoFile(f"{url}: {str(error) or type(error).__name__}")


def _reason(error: Exception) -> str:
    """The system's and OpenSSL's own words: asyncio says "Connect call failed" for everything."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error)
