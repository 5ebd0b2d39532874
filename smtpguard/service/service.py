"""From settings to a running relay: build, start, reload, drain, stop (contract 1.6).

Everything that the rooms want passed in is made here: clock, ids, sockets, hops, lint, memory, log, metrics.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

from smtpguard import __version__
from smtpguard.classify import RuleError, ShippedRuleError
from smtpguard.config import (
    ConfigError,
    Loaded,
    Settings,
    host_key,
    load_users,
    needs_restart,
)
from smtpguard.edge import listen
from smtpguard.edge.alerts import Alerts
from smtpguard.edge.auth import Users
from smtpguard.edge.doorkeeper import Doorkeeper
from smtpguard.edge.host import Dates, Ids, own_name, spool_dir
from smtpguard.edge.lint import Lint
from smtpguard.edge.log import configure
from smtpguard.edge.metrics import Metrics
from smtpguard.edge.smtpd import Door
from smtpguard.edge.spool import Memory
from smtpguard.flow import Relay
from smtpguard.flow.standing import Standing
from smtpguard.history import StoreError
from smtpguard.policy import Policies
from smtpguard.record import Masker
from smtpguard.routes import Routes
from smtpguard.service import memory, reading
from smtpguard.service.certificate import Certificate, NoCertificate
from smtpguard.service.former import Former
from smtpguard.service.hops import Hop, Hops
from smtpguard.service.journal import Journal, webhook
from smtpguard.service.tls_policies import TlsPolicies
from smtpguard.web import Events, Http

LAG_EVERY_S: Final = 0.5
STORE_WITHIN_S: Final = 0.5  # what is remembered may take so long; without it mail goes on, and it comes later


class CannotStart(Exception):
    """Something outside of the settings stands in the way; the text names it and the remedy."""


def _when(at: float) -> str:
    """A time as a reply names it."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


class Service:
    """One relay. `await start()`, then `await stop()`; `addresses` tells where it listens."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        maildir: Path | None = None,
        reload: Callable[[], Loaded] | None = None,
        environ: Mapping[str, str] | None = None,
        stream: Any = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now`: seconds since the epoch, for the log, the history and what policy remembers."""
        self.settings = loaded.settings
        self._now = now
        self.path = loaded.path
        self.addresses: dict[str, list[str]] = {}
        self._reload = reload
        self._environ = environ if environ is not None else os.environ
        try:
            self._classifier = reading.classifier(self.settings)
        except ShippedRuleError as error:
            raise CannotStart(str(error)) from error
        except (RuleError, OSError) as error:  # good when it was checked, a moment ago
            raise CannotStart(f"classify.rules: {error}") from error
        self._new_id = Ids(now, secrets.randbits(25))
        self.metrics = Metrics()
        self._masker = Masker(self.settings.privacy.addresses, host_key())
        self.log = configure(
            self.settings.log,
            stream,
            masker=self._masker,
            on_drop=self.metrics.events_dropped.labels("log").inc,
        )
        self._hostname = self.settings.relay.hostname or own_name()
        url, self._why_in_memory = memory.place(self.settings)
        try:
            self.store = memory.store(
                url,
                self.settings,
                on_drop=self.metrics.events_dropped.labels("history").inc,
                on_away=self._on_store_away,
                clock=now,
            )
        except StoreError as error:
            raise CannotStart(str(error)) from error
        self._lint: Lint | None = None
        self._events = Events()
        self.log.on_event, self.log.on_record = self._events.put, self._events.write
        self._certificate = Certificate(self.metrics.tls_certificate_expiry_timestamp.set)
        self._alerts = Alerts(
            *webhook(self.settings),
            masker=self._masker,
            log=self.log.event,
            on_drop=self.metrics.events_dropped.labels("alerts").inc,
        )
        self._hops = Hops(
            metrics=self.metrics,
            log=self.log.event,
            memory=TlsPolicies(self.store.state.tls_policies, now),
            maildir=maildir,
        )
        self._former = Former()
        self._keeper: Doorkeeper | None = None
        self._acceptor: listen.Acceptor | None = None
        self._http: Http | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unix: list[str] = []  # paths of sockets that are ours to remove
        self._ready = False
        self._lint_watch: asyncio.Task[Any] | None = None

    @property
    def status(self) -> str:
        """Where it listens, in a line."""
        return "listens on " + ", ".join(chain.from_iterable(self.addresses.values()))

    # -- start ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind, connect nothing yet, listen; CannotStart with a remedy if that is not possible."""
        try:
            await self._start()
        except BaseException:
            await asyncio.to_thread(self.store.close)
            self.log.close()
            raise

    async def _start(self) -> None:
        settings = self.settings
        self._loop = asyncio.get_running_loop()
        self._journal = Journal(self.log, self.metrics, self.store, self._alerts, self._loop.call_later)
        try:
            doors, self._unix = listen.open_doors(settings.listen, self._environ)
        except listen.CannotListen as reason:
            raise CannotStart(str(reason)) from reason
        try:
            await self._hops.start_sandbox(settings)
            self._hops.take(self._hops.made(settings, self._hostname))
            await asyncio.to_thread(self.store.start, STORE_WITHIN_S)
            self._mask(settings)
            self._alerts.start()
            self._lint = self._new_lint(settings, self._hostname)
            self._keeper = Doorkeeper(
                listen=settings.listen,
                relay=self._relay(settings),
                memory=Memory(settings.relay.memory),
                spool_dir=spool_dir(settings.relay.spool_dir),
                normalize=settings.relay.bare_newline == "normalize",
                metrics=self.metrics,
                log=self.log,
                date=Dates(self._now),
                tls=self._certificate.context(settings.listen),
                users=Users(load_users(Path(settings.listen.users_file))) if settings.listen.users_file else None,
            )
            await self._start_http()
        except BaseException as error:
            for _, listener in doors:
                listener.close()
            await self._close_hops()
            if isinstance(error, NoCertificate):
                raise CannotStart(str(error)) from error
            raise
        self._acceptor = listen.Acceptor(settings.listen.max_sessions)
        for door, listener in doors:
            self.addresses.setdefault(door, []).append(listen.shown(listener))
            self._acceptor.accept(listener, partial(Door, door, self._keeper, self._new_id))
        self._spawn(self._ask_hops())
        self._spawn(self._watch_lag())
        self._watch_egress()
        self._ready = True
        if self._why_in_memory:
            self.log.event("history", self._why_in_memory, level="warning")
        self.log.event(
            "service-started",
            f"smtpguard {__version__} {self.status}",
            fields={
                "service.version": __version__,
                "smtpguard.config": str(self.path) if self.path else None,
                **{f"smtpguard.listen.{door}": ",".join(where) for door, where in self.addresses.items()},
            },
        )

    async def _start_http(self) -> None:
        where = self.settings.http.listen
        if where is None:
            return
        token = self.settings.http.token
        self._http = Http(
            exposition=self.metrics.exposition,
            settle=self._journal.flush,
            ready=lambda: {"listening": self._ready, "config": True},  # a bad file never becomes the configuration
            token=token.get_secret_value() if token else "",
            names=(self._hostname,),
            store=self.store,
            classifier=lambda: self._classifier,
            events=self._events,
            settings=lambda: self.settings,
            clock=self._now,
        )
        try:
            host, port = await self._http.start(where.host, where.port)
        except OSError as error:
            raise CannotStart(listen.why_not("http.listen", f"{where.host}:{where.port}", error)) from error
        self.addresses["http"] = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]

    def _relay(self, settings: Settings) -> Relay:
        return Relay(
            hops=self._hops.by_name,
            routes=Routes(settings.route),
            classifier=self._classifier,
            journal=self._journal,
            hostname=self._hostname,
            reply=settings.reply,
            answer_within_s=settings.relay.answer_within,
            received_header=settings.relay.received_header,
            clock=time.monotonic,  # the loop's own clock; uvloop's time() has whole milliseconds
            now=self._now,
            new_id=self._new_id,
            standing=Standing(
                Policies(settings.policy),
                settings.suppression,
                self.store.state,
                now=self._now,
                when=_when,
                random=random.random,
            ),
            id_of=self._masker.id,
            shown=self._masker.show,
            masked=self._masker.text,
            inspect=None if self._lint is None else partial(self._lint.inspect, self._hops.by_name),
        )

    def _new_lint(self, settings: Settings, hostname: str) -> Lint | None:
        if settings.lint.mode == "off":
            return None
        return Lint(
            settings.lint,
            settings.sender,
            settings.next_hop,
            hostname=hostname,
            metrics=self.metrics,
            log=self.log.event,
            on_listed=self._alerts.listed,
        )

    def _put_in_force(self, relay: Relay) -> None:
        """For what begins now; transactions under way keep theirs, and what they use."""
        assert self._keeper is not None
        self._former.add(self._keeper.relay)
        self._keeper.relay = relay

    def _mask(self, settings: Settings) -> None:
        """Addresses are shown so from now on: by the history's key, so that what one node has hashed another finds."""
        self._masker = Masker(settings.privacy.addresses, self.store.key)
        self.log.settle(settings.log, self._masker)
        self._alerts.settle(*webhook(settings), self._masker)

    def _on_store_away(self, why: str) -> None:
        """From the writer's thread: the history is away, or ("") there again, perhaps with another key."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._tell_store, why)

    def _tell_store(self, why: str) -> None:
        if why:
            message = f"the history is away, mail goes on: {why}"
            self.log.event("history", message, level="warning", fields={"event.outcome": "failure"})
        elif self._ready and self._keeper is not None:
            self.log.event("history", "the history is there again", fields={"event.outcome": "success"})
            self._mask(self.settings)
            self._put_in_force(self._relay(self.settings))

    def _spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _ask_hops(self) -> None:
        """Learn what the next hops offer; until then everything is offered (contract 1.2)."""
        await asyncio.gather(*(hop.ask() for hop in self._hops.by_name.values()))

    async def _watch_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self.metrics.event_loop_lag.observe(max(0.0, loop.time() - due))
            self.metrics.suppressed_addresses.set(len(self.store.state.suppressions))

    # -- reload --------------------------------------------------------------------------------------------------

    async def reload(self) -> bool:
        """Take the file anew, all or nothing; what a transaction under way uses stays until it ends."""
        assert self._reload is not None
        assert self._keeper is not None
        try:
            loaded = self._reload()
            old, new = self.settings, loaded.settings
            waiting = needs_restart(old, new)
            kept_store = new.store.model_copy(update={"url": old.store.url})
            new = new.model_copy(update={"listen": old.listen, "http": old.http, "store": kept_store})
            classifier = await asyncio.to_thread(reading.classifier, new)
            await self._hops.start_sandbox(new)
            hostname = new.relay.hostname or own_name()
            made = self._hops.made(new, hostname)
            used = ("lint", "sender", "next_hop", "relay")  # what a lint knows is not taken over to new settings
            is_linted_anew = any(getattr(old, name) != getattr(new, name) for name in used)
            lint = self._new_lint(new, hostname) if is_linted_anew else self._lint
        except (ConfigError, RuleError, OSError) as error:  # OSError: a file that was good a moment ago
            self.metrics.config_last_reload_successful.set(0)
            self.log.event(
                "config-reloaded",
                "configuration refused, the old one stays: " + "; ".join(str(error).splitlines()),
                level="error",
                fields={"event.outcome": "failure"},
            )
            return False
        given_up: list[Hop | Lint] = [*self._hops.take(made)]
        if self._lint is not None and lint is not self._lint:
            given_up.append(self._lint)
        self.settings, self._hostname, self._classifier = new, hostname, classifier
        self._mask(new)
        self.store.settle(mode=new.privacy.addresses, retention_s=new.privacy.retention, max_size=new.store.max_size)
        self._lint = lint
        if is_linted_anew:
            self._watch_egress()
        self._put_in_force(self._relay(new))
        self._keeper.memory.limit = new.relay.memory
        self._keeper.spool_dir = spool_dir(new.relay.spool_dir)
        self._keeper.normalize = new.relay.bare_newline == "normalize"
        self._renew_certificate()
        self.metrics.config_last_reload_successful.set(1)
        for warning in loaded.warnings:
            self.log.event("config-reloaded", str(warning), level="warning")
        self.log.event(
            "config-reloaded",
            "configuration reloaded" + (f"; a restart is needed for {', '.join(waiting)}" if waiting else ""),
            level="warning" if waiting else "info",
            fields={"event.outcome": "success"},
        )
        self._spawn(self._ask_hops())
        if given_up:
            self._spawn(self._former.give_up(given_up))
        return True

    def _watch_egress(self) -> None:
        """By the lint that is in force now."""
        if self._lint_watch is not None:
            self._lint_watch.cancel()
        self._lint_watch = self._spawn(self._lint.watch()) if self._lint is not None else None

    def _renew_certificate(self) -> None:
        """A certificate renewed in place counts from the next STARTTLS on; `listen` itself needs a restart."""
        assert self._keeper is not None
        if self._keeper.tls is not None:
            try:
                self._certificate.load(self._keeper.tls, self.settings.listen)
            except NoCertificate as reason:
                self.log.event("config-reloaded", f"the old certificate stays: {reason}", level="error")

    # -- stop ----------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Contract 1.6: no new sessions; 421 before the dot; after it the next hop's answer, up to `relay.drain`."""
        self._ready = False
        self.log.event("service-stopping", "stopping")
        cut = 0
        if self._acceptor is not None:
            await self._acceptor.close(unlink=self._unix)
            cut = await self._acceptor.drain(self.settings.relay.drain)
        if self._http is not None:
            await self._http.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close_hops()
        if self._lint is not None:
            await self._lint.close()
        self._journal.flush()
        await self._alerts.close()
        await asyncio.to_thread(self.store.close)
        if self._keeper is not None and self._keeper.users is not None:
            self._keeper.users.close()
        self.log.event("service-stopped", "stopped" + (f"; {cut} sessions were cut off" if cut else ""))
        self.log.close()

    async def _close_hops(self) -> None:
        await self._former.close()
        await self._hops.close()
