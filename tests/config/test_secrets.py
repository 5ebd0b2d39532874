"""Passwords, tokens, users and certificates: where they come from, and that nothing ever shows them."""

from __future__ import annotations

import datetime
import json
import pickle
from pathlib import Path

import argon2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from smtpguard.config import ConfigError, FileError, Loaded, load, load_users

SECRET = "correct-horse-battery"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(more: str = "", environ: dict[str, str] | None = None, *, user: str = 'username = "u"\n') -> Loaded:
    Path("smtpguard.toml").write_text(f'[next_hop.default]\nhost = "smtp.example.net"\n{user}{more}')
    return load(Path("smtpguard.toml"), environ or {})


def password(found: Loaded) -> str:
    held = found.settings.next_hop["default"].password
    assert held is not None
    return held.get_secret_value()


def test_a_password_comes_from_a_credential_then_a_file_then_the_environment(tmp_path: Path) -> None:
    Path("pw").write_text("from file \n")
    (tmp_path / "next_hop.default.password").write_text("from systemd")
    systemd = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    variable = {"SMTPGUARD__NEXT_HOP__DEFAULT__PASSWORD": '["from environment'}
    assert password(loaded(environ=variable)) == '["from environment'
    assert password(loaded(environ=systemd)) == "from systemd"
    assert password(loaded('password_file = "pw"', variable)) == "from file "
    assert password(loaded('password_file = "pw"', {**systemd, **variable})) == "from systemd"


def test_a_password_twice_is_odd() -> None:
    Path("pw").write_text(SECRET)
    (warning,) = loaded('password_file = "pw"', {"SMTPGUARD__NEXT_HOP__DEFAULT__PASSWORD": "x"}).warnings
    assert str(warning).startswith("environment SMTPGUARD__NEXT_HOP__DEFAULT__PASSWORD: has no effect")


def test_a_token_is_read_and_lets_http_listen_to_others() -> None:
    Path("token").write_text(SECRET + "\n")
    http = '[http]\nlisten = "0.0.0.0:9125"\n'
    for found in (
        loaded(f'{http}token_file = "token"', user=""),
        loaded(http, {"SMTPGUARD__HTTP__TOKEN": SECRET}, user=""),
    ):
        assert found.settings.http.token is not None
        assert found.settings.http.token.get_secret_value() == SECRET


def test_no_secret_is_ever_shown() -> None:
    Path("pw").write_text(SECRET)
    found = loaded('password_file = "pw"\n[http]\ntoken_file = "pw"')
    settings = found.settings
    for shown in (repr(found), str(settings), repr(settings.next_hop), settings.model_dump_json(), settings.http):
        assert SECRET not in str(shown)
    assert "password" not in settings.next_hop["default"].model_dump()


@pytest.mark.parametrize(
    "more",
    [
        f'password = "{SECRET}"',
        f'password_file = "{SECRET}"',
        f'password_file = ["{SECRET}"]',
        f'pasword = "{SECRET}"',
        f'[http]\ntoken = "{SECRET}"',
        f'[http]\ntoken_file = "{SECRET}"',
        f"[http]\ntoken_file = '{SECRET}",
    ],
)
def test_no_mistake_repeats_what_may_be_a_secret(more: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(more)
    assert SECRET not in str(caught.value)
    assert SECRET not in json.dumps([str(problem) for problem in caught.value.problems])
    assert caught.value.__cause__ is None


BAD_FILES = [
    (b"", "is empty"),
    (b"\n", "is empty"),
    (b"one\ntwo\n", "holds more than one line, or control characters"),
    (b"a\0b", "holds more than one line, or control characters"),
    (b"\xff", "is not UTF-8 text"),
    (b"x" * 5_000, "is longer than 4096 octets"),
]


@pytest.mark.parametrize(("content", "said"), BAD_FILES)
def test_a_secret_that_cannot_be_used(content: bytes, said: str) -> None:
    Path("pw").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        loaded('password_file = "pw"')
    assert [str(problem) for problem in caught.value.problems] == [
        f"smtpguard.toml:4: next_hop.default.password_file: {said}"
    ]


def test_a_bad_credential_is_named(tmp_path: Path) -> None:
    (tmp_path / "next_hop.default.password").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"systemd credential next_hop\.default\.password is empty"):
        loaded(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_a_login_in_clear_is_for_this_machine_only() -> None:
    Path("pw").write_text(SECRET)
    text = '[next_hop.default]\nhost = "{}"\ntls = "none"\nusername = "u"\npassword_file = "pw"\n'
    Path("local.toml").write_text(text.format("127.0.0.1"))
    Path("far.toml").write_text(text.format("192.0.2.1"))
    (warning,) = load(Path("local.toml"), {}).warnings
    assert "sent in clear" in warning.message
    with pytest.raises(ConfigError, match="a login needs TLS"):
        load(Path("far.toml"), {})


# --- users -----------------------------------------------------------------------------------------------------

ARGON2 = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x")
SCRYPT = "$scrypt$ln=15,r=8,p=1$" + "A" * 22 + "$" + "b" * 43


def test_users_of_both_hashes() -> None:
    Path("users").write_text(f"# ours\n\nanna:{ARGON2}\nbert@example.org:{SCRYPT}\r\n")
    assert load_users(Path("users")) == {"anna": ARGON2, "bert@example.org": SCRYPT}


def test_every_bad_line_of_users_is_named_and_none_is_shown() -> None:
    lines = [f"anna:{SECRET}", SECRET, f":{ARGON2}", f"a:{ARGON2}", f"a:{ARGON2}", "b:$scrypt$ln=31,r=8,p=1$AAAA$BBBB"]
    Path("users").write_text("\n".join(lines))
    with pytest.raises(FileError) as caught:
        load_users(Path("users"))
    assert [reason.split()[1] for reason in caught.value.reasons] == ["1", "2", "3", "5", "6"]
    assert SECRET not in str(caught.value)


def test_users_without_a_user() -> None:
    Path("users").write_text("# nobody\n")
    with pytest.raises(FileError, match="names no user"):
        load_users(Path("users"))


# --- certificates ----------------------------------------------------------------------------------------------


def certificate(name: str) -> None:
    """Write NAME.crt and NAME.key, made for each other."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    Path(f"{name}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    for file, how in (
        (f"{name}.key", serialization.NoEncryption()),
        (f"{name}.locked", serialization.BestAvailableEncryption(b"secret")),
    ):
        Path(file).write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))


def test_certificate_and_key_that_belong_together() -> None:
    certificate("a")
    Path("users").write_text(f"anna:{ARGON2}\n")
    found = loaded('tls_cert = "a.crt"\ntls_key = "a.key"\ntls_ca_file = "a.crt"\n[listen]\n'
                   'tls_cert = "a.crt"\ntls_key = "a.key"\nusers_file = "users"', user="")  # fmt: skip
    assert found.warnings == ()
    assert found.settings.listen.users_file == "users"


@pytest.mark.parametrize(
    ("cert", "key", "said"),
    [
        ("a.crt", "b.key", "key values mismatch"),
        ("a.crt", "a.crt", "cannot be used"),
        ("a.crt", "a.locked", "cannot be used"),  # and nobody is asked for a passphrase
        ("a.key", "a.key", "cannot be used"),
        ("a.crt", "none", "cannot be read: no such file"),
    ],
)
def test_certificate_and_key_that_do_not(cert: str, key: str, said: str) -> None:
    certificate("a")
    certificate("b")
    with pytest.raises(ConfigError, match=said):
        loaded(f'[listen]\ntls_cert = "{cert}"\ntls_key = "{key}"', user="")


def test_authorities_that_are_none() -> None:
    Path("ca").write_text("x")
    with pytest.raises(ConfigError, match="'ca' holds no PEM certificate"):
        loaded('tls_ca_file = "ca"', user="")


def test_settings_can_be_compared_and_copied() -> None:
    """A reload compares old and new; a copy keeps the secret."""
    Path("pw").write_text(SECRET)
    one, two = loaded('password_file = "pw"'), loaded('password_file = "pw"')
    assert one.settings == two.settings
    assert password(one) == pickle.loads(pickle.dumps(one.settings)).next_hop["default"].password.get_secret_value()
    Path("pw").write_text("another")
    assert loaded('password_file = "pw"').settings != one.settings
