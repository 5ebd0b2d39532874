"""Changing a Postfix, all or nothing, and giving it its files back.

    folder smtpguard-undo, beside main.cf     holds
    main.cf, master.cf                        what they were
    SHA256SUMS                                what they became: undo touches nothing that was changed since
    way-back                                  the commands that lead back by hand

Changes are made by postconf(1), judged by `postfix check`, taken over by `postfix reload` where Postfix runs. Whatever
fails, the two files are again what they were, octet by octet, with owner and mode.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from smtpguard.cli.plan import Command
from smtpguard.cli.postfix import Postfix, PostfixError

FOLDER: Final = "smtpguard-undo"
FILES: Final = ("main.cf", "master.cf")
_SUMS: Final = "SHA256SUMS"
_WAY_BACK: Final = "way-back"


class NotApplied(Exception):
    """Postfix's files are what they were; the text says why."""


def apply(postfix: Postfix, commands: Sequence[Command], way_back: str) -> bool:
    """Run the commands; whether Postfix was running and took them over. `way_back` is kept, for who undoes by hand.

    NotApplied: all is as it was before.
    """
    folder = postfix.directory / FOLDER
    for name in FILES:
        if (postfix.directory / name).is_symlink():
            raise NotApplied(f"{postfix.directory / name} is a link, which another program may own: change it there")
    try:
        postfix.run("postfix", "check")
    except PostfixError as error:
        raise NotApplied(f"Postfix was not in order before: {error}") from None
    _keep(postfix.directory, folder, way_back)
    try:
        for command in commands:
            postfix.run(*command)
        postfix.run("postfix", "check")
        sums = [f"{_sum(postfix.directory / name)}  {name}\n" for name in FILES]
        (folder / _SUMS).write_text("".join(sums))
        is_running = postfix.is_running()
        if is_running:
            postfix.run("postfix", "reload")
    except BaseException as reason:  # Ctrl-C too
        _give_back(postfix, folder)
        if isinstance(reason, PostfixError | OSError):
            raise NotApplied(f"{reason}; all is as it was before") from None
        raise
    return is_running


def undo(postfix: Postfix, *, force: bool) -> bool:
    """Give the files back; whether Postfix was running and took them over.

    NotApplied where there is nothing to undo, or the files were changed since and not `force`.
    """
    folder = postfix.directory / FOLDER
    if not folder.is_dir():
        raise NotApplied(f"there is no {folder}: `init --apply` was not run, or was undone")
    changed = [name for name in FILES if not _is_as_left(postfix.directory / name, folder)]
    if changed and not force:
        by_hand = (folder / _WAY_BACK).read_text().strip()
        raise NotApplied(
            f"{' and '.join(changed)} changed since; --force puts the old files back all the same. By hand (then "
            f"remove {folder}):\n{by_hand}"
        )
    return _give_back(postfix, folder)


def _keep(directory: Path, folder: Path, way_back: str) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise NotApplied(f"there is {folder} already: `smtpguard init --undo` first") from None
    except OSError as error:
        raise NotApplied(f"{folder} cannot be made: {error.strerror}; are you root?") from None
    try:
        for name in FILES:
            _copy(directory / name, folder / name)
        (folder / _WAY_BACK).write_text(way_back)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise NotApplied(f"{folder} cannot be filled: {error.strerror}") from None


def _give_back(postfix: Postfix, folder: Path) -> bool:
    """Put the files in their places, whole or not at all; whether a running Postfix took them over."""
    for name in FILES:
        place = postfix.directory / name
        waiting = place.with_name(f"{name}.{FOLDER}")
        _copy(folder / name, waiting)
        os.replace(waiting, place)
    shutil.rmtree(folder)
    with contextlib.suppress(PostfixError):  # the files are what counts
        if postfix.is_running():
            postfix.run("postfix", "reload")
            return True
    return False


def _copy(source: Path, target: Path) -> None:
    """Content, mode, times, owner."""
    shutil.copy2(source, target)
    about = source.stat()
    os.chown(target, about.st_uid, about.st_gid)
    with target.open("rb") as copy:
        os.fsync(copy.fileno())


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_as_left(path: Path, folder: Path) -> bool:
    sums = folder / _SUMS  # not there where `apply` was killed half-way
    return sums.exists() and f"{_sum(path)}  {path.name}\n" in sums.read_text()
