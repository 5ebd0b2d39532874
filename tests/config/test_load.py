"""From file and environment to settings: every mistake with its line, all at once, and nothing but ConfigError."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpguard.config import (
    RESTART_KEYS,
    ConfigError,
    ListenAddress,
    Settings,
    defaults_for_sandbox,
    load,
    needs_restart,
)

HOP = '[next_hop.default]\nhost = "smtp.example.net"\n'


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(text: str, environ: dict[str, str] | None = None, *, sandbox: bool = False) -> Settings:
    Path("smtpguard.toml").write_text(text, encoding="utf-8")
    return load(Path("smtpguard.toml"), environ or {}, sandbox=sandbox).settings


def complaints(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(text, environ)
    return [str(problem) for problem in caught.value.problems]


def warnings(text: str) -> list[str]:
    Path("smtpguard.toml").write_text(text, encoding="utf-8")
    return [str(warning) for warning in load(Path("smtpguard.toml"), {}).warnings]


# --- what is taken ---------------------------------------------------------------------------------------------


def test_a_small_file_leaves_the_rest_at_its_defaults() -> None:
    found = loaded(HOP)
    assert found.listen == Settings().listen
    hop = found.next_hop["default"]
    assert (hop.host, hop.port, hop.tls, hop.timeout.final) == (("smtp.example.net",), 587, "required", 540.0)


def test_a_full_file_becomes_typed_values() -> None:
    found = loaded("""
        [listen]
        lmtp = ["unix:/run/smtpguard/lmtp.sock", "[::1]:0"]
        smtp = ""
        allow = "10.0.0.0/8"
        idle_timeout = "1m"
        [next_hop.default]
        host = "a.example"
        tls = "implicit"
        discard_keywords = "chunking"
        timeout.connect = "3s"
        [next_hop.other]
        host = ["b.example", "192.0.2.1"]
        tls_name = "b.example"
        port = 25
        [[route]]
        recipient_domain = "*.Example.org"
        next_hop = "other"
        [http]
        listen = ""
    """)
    assert found.listen.lmtp == (ListenAddress("", 0, "/run/smtpguard/lmtp.sock"), ListenAddress("::1", 0))
    assert found.listen.smtp == ()
    assert found.listen.socket_mode == 0o660
    assert found.listen.idle_timeout == 60.0
    assert [str(net) for net in found.listen.allow] == ["10.0.0.0/8"]
    assert found.next_hop["default"].port == 465
    assert found.next_hop["default"].discard_keywords == ("CHUNKING",)
    assert found.next_hop["default"].timeout.connect == 3.0
    assert found.next_hop["default"].timeout.data == 300.0
    assert found.next_hop["other"].port == 25
    assert found.route[0].recipient_domain == ("*.example.org",)
    assert found.http.listen is None


def test_the_sandbox_as_a_next_hop_has_no_tls_of_its_own() -> None:
    assert loaded('[next_hop.default]\nhost = "sandbox"').next_hop["default"].tls == "none"


def test_byte_order_mark_and_crlf_are_taken() -> None:
    Path("smtpguard.toml").write_bytes(b"\xef\xbb\xbf" + HOP.replace("\n", "\r\n").encode())
    assert load(None, {}).settings.next_hop["default"].host == ("smtp.example.net",)


# --- where it comes from ---------------------------------------------------------------------------------------


def test_the_first_place_that_has_a_file_wins(tmp_path: Path) -> None:
    for name in ("given", "named", "smtpguard"):
        Path(f"{name}.toml").write_text(f'[next_hop.default]\nhost = "{name}.example"')
    assert load(Path("given.toml"), {"SMTPGUARD_CONFIG": "named.toml"}).path == Path("given.toml")
    assert load(None, {"SMTPGUARD_CONFIG": str(tmp_path / "named.toml")}).path == tmp_path / "named.toml"
    assert load(None, {}).path == Path("smtpguard.toml")


@pytest.mark.parametrize(
    ("path", "environ", "said"),
    [
        (Path("none.toml"), {}, "none.toml: cannot be read: no such file or directory"),
        (None, {"SMTPGUARD_CONFIG": "none.toml"}, "none.toml: cannot be read: no such file or directory"),
        (Path(), {}, ".: cannot be read: is a directory"),
        (Path("a\0b"), {}, "a b: cannot be read: not a file name"),
    ],
)
def test_a_file_that_cannot_be_read(path: Path | None, environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(path, environ)
    assert str(caught.value) == said


def test_without_a_file_a_next_hop_is_missed() -> None:
    with pytest.raises(ConfigError, match=r"^next_hop.default: no next hop: write \[next_hop.default\] with host"):
        load(None, {})


# --- the sandbox -----------------------------------------------------------------------------------------------


def test_the_sandbox_needs_no_configuration() -> None:
    found = load(None, {}, sandbox=True)
    assert found.path is None
    assert found.settings == defaults_for_sandbox()
    assert found.settings.next_hop["default"].host == ("sandbox",)


def test_with_the_sandbox_no_next_hop_of_the_file_is_left() -> None:
    found = loaded(
        '[next_hop.a]\nhost = "a.example"\nusername = "u"\npassword_file = "/nonexistent"\nconnections = 3\n'
        '[[route]]\nnext_hop = "a"\nrecipient_domain = "a.example"',
        {"SMTPGUARD__LISTEN__SMTP": "127.0.0.1:0"},
        sandbox=True,
    )
    assert {hop.host for hop in found.next_hop.values()} == {("sandbox",)}
    assert set(found.next_hop) == {"default", "a"}
    assert (found.next_hop["a"].tls, found.next_hop["a"].username, found.next_hop["a"].connections) == ("none", "", 3)
    assert found.listen.smtp == (ListenAddress("127.0.0.1", 0),)


# --- mistakes (one by one: test_mistakes.py) --------------------------------------------------------------------


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = """[listen]
lmpt = "x"
allow = "0.0.0.0/0"
smtp = 25
[[route]]
next_hop = "x"
[next_hop.default]
host = "a.example"
tls = "sometimes"
"""
    found = complaints(text)
    assert [line.split(":")[1] for line in found] == ["2", "3", "4", "6", "9"]


def test_a_bad_key_draws_no_other_complaint() -> None:
    assert len(complaints("[next_hop.default]\nhost = 5\n")) == 1
    assert len(complaints("[next_hop]\ndefault = 5\n[next_hop.b]\nhost = 'b.example'")) == 1
    assert len(complaints(HOP + "username = 'u'\npassword_file = 5\n")) == 1


def test_a_next_hop_must_be_the_default() -> None:
    assert complaints(HOP.replace("default", "other")) == [
        "smtpguard.toml:1: next_hop.default: is missing: one of the next hops must bear this name"
    ]


def test_a_file_that_is_no_text() -> None:
    Path("smtpguard.toml").write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigError, match=r"smtpguard\.toml:2: is not UTF-8 text"):
        load(None, {})


@pytest.mark.parametrize("text", ["a = " + "[" * 5_000, "a = " + "9" * 5_000, "a = " + "{b=" * 5_000, "#" * 2**21])
def test_a_file_made_to_hurt(text: str) -> None:
    assert len(complaints(text)) == 1


WARNINGS = [
    (
        "[[policy]]\naction = 'pass'\n[[policy]]\nclass = 5\n" + HOP,
        "1: policy[0]: has no condition and takes all refusals",
    ),
    ("[lint]\nmode = 'off'\n[lint.rules]\nSPF = 'reject'\n" + HOP, "3: lint.rules: has no effect with mode = off"),
    ("[[policy]]\nclass = 4\naction = 'defer'\n" + HOP, "3: policy[0].action: has no effect with class = 4"),
    (HOP + "tls = 'none'\ntls_name = 'x'\n", "4: next_hop.default.tls_name: has no effect with tls = none"),
    (HOP + "tls = 'opportunistic'\ntls_name = 'x'\n", "4: next_hop.default.tls_name: has no effect with tls"),
    ("[next_hop.default]\nhost = '192.0.2.1'\n", "2: next_hop.default.host: few certificates name an IP address"),
    ("[[route]]\nnext_hop = 'default'\n[[route]]\nnext_hop = 'default'\n" + HOP, "1: route[0]: has no condition"),
    ("[relay]\nanswer_within = '20m'\n" + HOP, "2: relay.answer_within: an MTA gives up after 600s"),
]


@pytest.mark.parametrize(("text", "said"), WARNINGS)
def test_what_is_odd_is_a_warning(text: str, said: str) -> None:
    (found,) = warnings(text)
    assert found.startswith(f"smtpguard.toml:{said}")


def test_an_ordinary_file_draws_no_warning() -> None:
    assert warnings(HOP) == []


# --- the environment -------------------------------------------------------------------------------------------


def test_the_environment_lies_over_the_file() -> None:
    environ = {
        "SMTPGUARD__LISTEN__SMTP": "[::1]:0",
        "SMTPGUARD__LISTEN__ALLOW": '["10.0.0.0/8", "192.0.2.0/24"]',
        "SMTPGUARD__LISTEN__MAX_SESSIONS": "7",
        "SMTPGUARD__LISTEN__SOCKET_MODE": "0600",
        "SMTPGUARD__RELAY__RECEIVED_HEADER": "false",
        "SMTPGUARD__RELAY__MEMORY": "1048576",
        "SMTPGUARD__NEXT_HOP__DEFAULT__TIMEOUT__CONNECT": "1s",
        "SMTPGUARD__NEXT_HOP__MY_BACKUP__PORT": "2525",
        "SMTPGUARD__ROUTE": '[{"sender_domain": "a.example", "next_hop": "my-Backup"}]',
        "SMTPGUARD_CONFIG": "ignored, as a file is given",
        "PATH": "/bin",
    }
    found = loaded(HOP + '[next_hop.my-Backup]\nhost = "b.example"\n', environ)
    assert found.listen.smtp == (ListenAddress("::1", 0),)
    assert len(found.listen.allow) == 2
    assert (found.listen.max_sessions, found.listen.socket_mode) == (7, 0o600)
    assert (found.relay.received_header, found.relay.memory) == (False, 1_048_576)
    assert found.next_hop["default"].timeout.connect == 1.0
    assert found.next_hop["my-Backup"].port == 2525
    assert found.route[0].next_hop == "my-Backup"


ENVIRONMENT = [
    ("LISTEN__SMTP", "hello", "LISTEN__SMTP: 'hello' is not host:port, [address]:port or unix:/path"),
    ("LISTEN__SMPT", "x", "LISTEN__SMPT: unknown key; did you mean 'SMTPGUARD__LISTEN__SMTP'?"),
    ("LISTN__SMTP", "x", "LISTN: unknown key; did you mean 'SMTPGUARD__LISTEN'?"),
    ("LISTEN__MAX_SESSIONS", "many", "LISTEN__MAX_SESSIONS: 'many' is not a whole number"),
    ("LISTEN__MAX_SESSIONS", "0", "LISTEN__MAX_SESSIONS: 0 is less than 1"),
    ("LISTEN__PROXY_PROTOCOL", "maybe", "LISTEN__PROXY_PROTOCOL: 'maybe' is not true or false"),
    ("LISTEN__ALLOW", '["10.0.0.0/8"', "LISTEN__ALLOW: begins as JSON and is not"),
    ("LISTEN__ALLOW", "0.0.0.0/0", "LISTEN__ALLOW: 0.0.0.0/0 would let strangers"),
    ("LISTEN", "x", "LISTEN: 'x' is not a table"),
    ("REPLY", '{"explain": "no"}', "REPLY: explain: 'no' is not true or false"),
    ("ROUTE", '[{"next_hop": "x"}]', "ROUTE: [0].next_hop: 'x' is not one of the next hops: default"),
    ("NEXT_HOP__DEFAULT__HOST__X", "x", "NEXT_HOP__DEFAULT__HOST__X: names no key: host is not a table"),
    ("NEXT_HOP__B__PORT", "25", "NEXT_HOP__B__HOST: is missing"),
    ("", "x", ": names no key"),
    ("LISTEN__", "x", "LISTEN__: names no key"),
]


@pytest.mark.parametrize(("variable", "text", "said"), ENVIRONMENT)
def test_a_mistake_in_the_environment_names_the_variable(variable: str, text: str, said: str) -> None:
    (found,) = complaints(HOP, {f"SMTPGUARD__{variable}": text})
    assert found.startswith(f"environment SMTPGUARD__{said}")


# --- restart, shape, noise -------------------------------------------------------------------------------------


def test_the_keys_that_need_a_restart() -> None:
    assert {"listen.lmtp", "listen.allow", "http.listen"} <= RESTART_KEYS
    assert {key.partition(".")[0] for key in RESTART_KEYS} == {"listen", "http", "store"}
    assert "http.token_file" not in RESTART_KEYS
    old, new = loaded(HOP), loaded(HOP + "[listen]\nsmtp = ''\n[log]\nlevel = 'debug'\n[http]\nlisten = ''")
    assert needs_restart(old, new) == ("http.listen", "listen.smtp")
    assert needs_restart(old, old) == ()


NAMES = re.findall("[a-z_0-9]+", " ".join(sorted(RESTART_KEYS)))
KNOWN = [*NAMES, "next_hop", "default", "host", "route", "timeout"]
words = st.sampled_from([*KNOWN, "x", '"a b"'])
scalars = st.sampled_from(['""', '"x"', "1", "-1", "true", "1.5", "[]", '["a", 1]', "{ a = 1 }", '"30s"', "nan", "inf"])
statements = (
    st.tuples(st.lists(words, min_size=1, max_size=4).map(".".join), scalars).map(" = ".join)
    | st.lists(words, min_size=1, max_size=3).map(".".join).map("[{}]".format)
    | words.map("[[{}]]".format)
    | st.text(max_size=10)
)


@given(st.lists(statements, max_size=8).map("\n".join), st.dictionaries(words.map(str.upper), st.text(max_size=9)))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_nothing_but_config_error(text: str, environ: dict[str, str]) -> None:
    named = {f"SMTPGUARD__LISTEN__{name}": value for name, value in environ.items()}
    problems = None
    try:
        loaded(text, named)
    except ConfigError as error:
        problems = error.problems
    assert problems is None or len(problems) > 0
    for problem in problems or ():
        assert str(problem).isprintable()
        assert problem.line is None or problem.line <= text.count("\n") + 1
