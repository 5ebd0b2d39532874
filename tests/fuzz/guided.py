"""One target under atheris (libFuzzer), led by new branches of ours: python -m tests.fuzz.guided TARGET SECONDS FOLDER

libFuzzer ends the process itself: exit code 0 when the time is over, another one at a finding, whose octets it leaves
in FOLDER. Only smtpguard is instrumented: branches of libraries would lead it there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]  # not everywhere to be had

with atheris.instrument_imports(include=["smtpguard"]):
    from tests.fuzz.targets import TARGETS

from tests.fuzz.words import WORDS

MAX_OCTETS = 4096


def main(arguments: Sequence[str]) -> None:
    """Fuzz; does not return."""
    name, seconds, folder = arguments[0], int(arguments[1]), Path(arguments[2])
    target = TARGETS[name]
    words = WORDS[target.language]
    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate((*words, b"".join(words), *target.findings)):
        (corpus / f"seed-{number}").write_bytes(seed)
    dictionary = folder / f"{name}.words"
    escaped = ("".join(f"\\x{octet:02x}" for octet in word) for word in words if word)
    dictionary.write_text("".join(f'"{word}"\n' for word in escaped))
    options = [f"-max_total_time={seconds}", f"-max_len={MAX_OCTETS}", f"-artifact_prefix={folder / name}-"]
    atheris.Setup(
        [name, *options, f"-dict={dictionary}", "-timeout=10", "-print_final_stats=1", str(corpus)], target.read
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
