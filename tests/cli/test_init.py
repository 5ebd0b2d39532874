"""`smtpguard init`: the plan for many a Postfix, and the files it writes. A real Postfix: tests/e2e/test_init.py."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from smtpguard.cli import app, straight
from smtpguard.cli.init import text
from smtpguard.cli.plan import CannotPlan, Plan, hand_over, plan
from smtpguard.cli.postfix import Facts, host_and_port, listed, pairs
from smtpguard.config import load

# What `postconf -x` says of a Debian Postfix, as far as it is asked for.
DEFAULTS: Mapping[str, str] = {
    "default_destination_concurrency_limit": "20",
    "default_destination_rate_delay": "0s",
    "default_destination_recipient_limit": "50",
    "inet_interfaces": "all",
    "inet_protocols": "all",
    "message_size_limit": "10240000",
    "myhostname": "mail.example.com",
    "relayhost": "[smtp.example.net]:587",
    "smtp_helo_name": "mail.example.com",
    "smtp_tcp_port": "smtp",
}
DOOR = "127.0.0.1:10724"
DEPLOY = Path(__file__).parents[2] / "deploy"


def facts(
    login: tuple[str, SecretStr] | None = None,
    *,
    options: Mapping[str, str] | None = None,
    services: tuple[str, ...] = ("smtp unix - - y - - smtp",),
    transport: str = "smtp",
    destination: str = "",
    tls_policy: str = "",
    catch_all: str = "",
    explicit: Mapping[str, str] | None = None,
    **parameters: str,
) -> Facts:
    return Facts(
        directory=Path("/etc/postfix"),
        parameters={**DEFAULTS, **parameters},
        explicit=explicit or {},
        options=options or {},
        services=services,
        transport=transport,
        destination=destination,
        login=login,
        tls_policy=tls_policy,
        catch_all=catch_all,
    )


def planned(found: Facts, *, next_hop: str = "", door: str = DOOR) -> Plan:
    made = plan(found, next_hop=next_hop)
    hand_over(made, found, door)
    return made


def keys(made: Plan) -> dict[str, object]:
    return {f"{key.table.removeprefix('next_hop.')}.{key.name}": key.value for key in made.keys}


def settings(made: Plan, name: str) -> list[str]:
    """The values that `postconf -e` gives this parameter."""
    given = [command[2].partition("=") for command in made.commands if command[1] == "-e"]
    return [value for key, _, value in given if key == name]


# --- our side --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relayhost", "host", "port"),
    [
        ("[smtp.example.net]:587", "smtp.example.net", 587),
        ("[smtp.example.net]:submission", "smtp.example.net", 587),
        ("[smtp.example.net]", "smtp.example.net", 25),
        ("smtp.example.net", "smtp.example.net", 25),
        ("[192.0.2.7]:2525", "192.0.2.7", 2525),
        ("[2001:db8::1]:587", "2001:db8::1", 587),
        ("[ipv6:2001:db8::1]", "2001:db8::1", 25),
        ("[a.example]:587, [b.example]:587", ["a.example", "b.example"], 587),
    ],
)
def test_relayhost_becomes_the_next_hop(relayhost: str, host: object, port: int) -> None:
    found = keys(planned(facts(relayhost=relayhost)))
    assert (found["default.host"], found["default.port"]) == (host, port)


def test_without_brackets_mx_records_are_not_asked_for_and_that_is_said() -> None:
    assert not [note for note in planned(facts()).notes if "brackets" in note]
    [note] = [note for note in planned(facts(relayhost="example.net")).notes if "brackets" in note]
    assert "dig MX example.net" in note


def test_another_port_cannot_come_along() -> None:
    made = planned(facts(relayhost="[a.example]:587 [b.example]:25"))
    assert keys(made)["default.host"] == "a.example"
    assert any("b.example:25" in note for note in made.notes)


def test_default_transport_may_name_it_and_the_command_line_wins() -> None:
    found = facts(destination="[other.example]:26")
    assert keys(planned(found))["default.host"] == "other.example"
    told = keys(planned(found, next_hop="mine.example"))
    assert (told["default.host"], told["default.port"], told["default.tls"]) == ("mine.example", 587, "required")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"relayhost": "[127.0.0.1]:10725"}, "is smtpguard already"),
        ({"transport": "smtpguard", "destination": "inet:[127.0.0.1]:10724"}, "init --undo"),
        ({"relayhost": "[a.example]:nonsense"}, "nonsense is not a port"),
        ({"relayhost": "a:b:c"}, "not [host]:port"),
    ],
)
def test_what_cannot_be_planned_says_what_to_do(given: dict[str, Any], words: str) -> None:
    with pytest.raises(CannotPlan, match=words.replace("[", r"\[")):
        plan(facts(**given))


LOGIN = ("user", SecretStr("marker-secret"))


@pytest.mark.parametrize(
    ("given", "login", "tls"),
    [
        ({}, None, "none"),
        ({"smtp_tls_security_level": "none"}, None, "none"),
        ({"smtp_tls_security_level": "may"}, None, "opportunistic"),
        ({"smtp_use_tls": "yes"}, None, "opportunistic"),
        ({"smtp_enforce_tls": "yes"}, None, "required"),
        ({"smtp_tls_security_level": "encrypt"}, None, "required"),
        ({"smtp_tls_security_level": "secure"}, None, "required"),
        ({"smtp_tls_security_level": "dane"}, None, "required"),
        ({"smtp_tls_security_level": "encrypt", "smtp_tls_wrappermode": "yes"}, None, "implicit"),
        ({"smtp_tls_security_level": "may", "tls_policy": "encrypt protocols=>=TLSv1.2"}, None, "required"),
        ({"smtp_tls_security_level": "encrypt", "tls_policy": "none"}, None, "none"),
        ({"smtp_tls_security_level": "may"}, LOGIN, "required"),
        ({}, LOGIN, "required"),
        ({"relayhost": "[127.0.0.1]:2525"}, LOGIN, "none"),
    ],
)
def test_tls_is_no_weaker_than_it_was(given: dict[str, Any], login: Any, tls: str) -> None:
    made = planned(facts(login, **given))
    assert keys(made)["default.tls"] == tls


def test_options_of_master_cf_lie_over_main_cf() -> None:
    found = facts(smtp_tls_security_level="may", options={"smtp_tls_security_level": "encrypt"})
    assert keys(planned(found))["default.tls"] == "required"


def test_size_names_and_files_come_along() -> None:
    made = planned(
        facts(
            LOGIN,
            message_size_limit="104857600",
            smtp_bind_address="192.0.2.1",
            smtp_discard_ehlo_keywords="chunking, silent-discard",
            smtp_tls_security_level="encrypt",
            smtp_tls_CAfile="/etc/ca.pem",
            smtp_tls_cert_file="/etc/c.pem",
        )
    )
    assert keys(made) | {} == {
        "default.host": "smtp.example.net",
        "default.port": 587,
        "default.tls": "required",
        "default.tls_ca_file": "/etc/ca.pem",
        "default.tls_cert": "/etc/c.pem",
        "default.tls_key": "/etc/c.pem",
        "default.username": "user",
        "listen.max_message_size": "113MiB",  # an eighth more than Postfix counts
        "relay.hostname": "mail.example.com",
        "default.bind": "192.0.2.1",
        "default.discard_keywords": ["CHUNKING"],
        "default.connections": 20,
    }
    assert made.password is LOGIN[1]
    assert keys(planned(facts(message_size_limit="0")))["listen.max_message_size"] == "1GiB"


def test_the_written_file_loads_and_holds_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(text(planned(facts(LOGIN)).keys, "# head"))
    environ = {"SMTPGUARD__NEXT_HOP__DEFAULT__PASSWORD": "x"}
    loaded = load(file, environ)
    assert loaded.settings.next_hop["default"].connections == 20
    assert loaded.settings.relay.hostname == "mail.example.com"
    assert "marker-secret" not in file.read_text() + repr(planned(facts(LOGIN)))


# --- Postfix's side --------------------------------------------------------------------------------------------


def test_the_commands_and_the_way_back() -> None:
    made = planned(facts(explicit={"default_transport": "smtp"}))
    assert made.commands == [
        (
            *("postconf", "-M"),
            "smtpguard/unix=smtpguard unix - - n - - lmtp -o lmtp_send_xforward_command=yes "
            "-o lmtp_tls_security_level=none -o lmtp_sasl_auth_enable=no",
        ),
        ("postconf", "-e", "default_transport=smtpguard:inet:[127.0.0.1]:10724"),
        ("postconf", "-e", "smtpguard_destination_concurrency_limit=20"),
        ("postconf", "-e", "smtpguard_destination_concurrency_failed_cohort_limit=10"),
        ("postconf", "-e", "smtpguard_destination_recipient_limit=50"),
        ("postconf", "-e", "address_verify_default_transport=smtp"),
    ]
    assert made.back == [
        ("postconf", "-MX", "smtpguard/unix"),
        ("postconf", "-e", "default_transport=smtp"),
        (
            *("postconf", "-X", "smtpguard_destination_concurrency_limit"),
            "smtpguard_destination_concurrency_failed_cohort_limit",
            *("smtpguard_destination_recipient_limit", "address_verify_default_transport"),
        ),
    ]
    assert made.against == []


def test_limits_of_the_old_transport_hold_for_the_new_one() -> None:
    made = planned(
        facts(
            smtp_destination_concurrency_limit="5",
            smtp_destination_recipient_limit="10",
            smtp_destination_rate_delay="1s",
        )
    )
    assert settings(made, "smtpguard_destination_concurrency_limit") == ["5"]
    assert settings(made, "smtpguard_destination_recipient_limit") == ["10"]
    assert settings(made, "smtpguard_destination_rate_delay") == ["1s"]
    assert keys(made)["default.connections"] == 5


def test_probes_stay_where_the_operator_sent_them() -> None:
    made = planned(facts(explicit={"address_verify_default_transport": "probe:"}))
    assert settings(made, "address_verify_default_transport") == []


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"smtp_generic_maps": "hash:/etc/postfix/generic"}, "-o lmtp_generic_maps=$smtp_generic_maps"),
        ({"options": {"smtp_header_checks": "pcre:/x"}}, "-o lmtp_header_checks=pcre:/x"),
        ({"options": {"smtp_body_checks": "pcre:/x, pcre:/y"}}, "-o { lmtp_body_checks = pcre:/x, pcre:/y }"),
        ({"lmtp_tls_policy_maps": "hash:/x"}, "-o lmtp_tls_policy_maps="),
        ({"inet_interfaces": "192.0.2.1"}, "-o lmtp_bind_address=127.0.0.1"),
        ({"lmtp_bind_address": "192.0.2.1"}, "-o lmtp_bind_address=127.0.0.1"),
    ],
)
def test_what_the_client_did_it_does_still(given: dict[str, Any], option: str) -> None:
    assert option in planned(facts(**given)).commands[0][2]
    assert option not in planned(facts()).commands[0][2]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"services": ("smtp unix - - y - - smtp", "smtpguard unix - - n - - lmtp")}, "a service smtpguard already"),
        ({"inet_protocols": "ipv6"}, "cannot reach 127.0.0.1:10724"),
        ({"transport": "amavis", "services": ("amavis unix - - n - - lmtp",)}, "runs lmtp"),
        ({"transport": "gone"}, "is not in master.cf"),
        ({"sender_dependent_relayhost_maps": "hash:/x"}, "[[route]]"),
        ({"smtp_sender_dependent_authentication": "yes"}, "logs in as one user"),
        ({"catch_all": "smtp:[a.example]"}, "sends '*' to smtp:[a.example]"),
    ],
)
def test_where_mail_would_go_astray_it_will_not_apply(given: dict[str, Any], words: str) -> None:
    assert words in " ".join(planned(facts(**given)).against)


def test_routes_by_sender_take_the_place_of_relayhosts_by_sender() -> None:
    found = facts(sender_dependent_relayhost_maps="hash:/x", smtp_sender_dependent_authentication="yes")
    made = plan(found)
    hand_over(made, found, DOOR, by_sender=True)
    assert made.against == []
    assert any("sender_domain" in note for note in made.notes)


def test_a_door_that_is_a_socket() -> None:
    made = planned(facts(inet_protocols="ipv6"), door="unix:/run/smtpguard/lmtp.sock")
    assert settings(made, "default_transport") == ["smtpguard:unix:/run/smtpguard/lmtp.sock"]
    assert made.against == []


# --- straight to the receivers ---------------------------------------------------------------------------------


def straightened(**given: Any) -> Plan:
    """The plan for a Postfix without a relayhost."""
    found = facts(**{"relayhost": "", **given})
    made = straight.plan(found)
    hand_over(made, found, DOOR)
    return made


def test_without_a_relayhost_mail_goes_straight_as_it_did() -> None:
    assert straight.is_straight("", facts(relayhost=""))
    assert not straight.is_straight("", facts())
    assert not straight.is_straight("", facts(relayhost="", destination="[a.example]"))
    assert straight.is_straight("mx", facts())
    assert not straight.is_straight("a.example", facts(relayhost=""))


def test_what_a_postfix_without_a_relayhost_had_comes_along() -> None:
    made = straightened(smtp_tls_security_level="may", smtp_bind_address="8.8.4.4", message_size_limit="104857600")
    assert keys(made) == {
        "default.host": "mx",
        "default.bind": "8.8.4.4",
        "default.egress_ips": ["8.8.4.4"],
        "default.connections_per_domain": 20,
        "listen.max_message_size": "113MiB",
        "relay.hostname": "mail.example.com",
    }
    assert made.against == []
    assert made.needs == straight.NEEDS


@pytest.mark.parametrize(
    ("level", "tls", "words"),
    [
        ("", None, ""),
        ("none", None, ""),
        ("may", None, ""),
        ("dane", None, "validating"),
        ("dane-only", "required", "validating"),
        ("encrypt", "required", "checked no certificate"),
        ("verify", "required", ""),
        ("unheard-of", "required", ""),
    ],
)
def test_tls_to_the_receivers_is_no_weaker_than_it_was(level: str, tls: str | None, words: str) -> None:
    made = straightened(smtp_tls_security_level=level)
    assert keys(made).get("default.tls") == tls
    assert words in " ".join(made.notes)


@pytest.mark.parametrize(
    ("given", "bind", "egress"),
    [
        ({}, None, None),
        (
            {"smtp_bind_address": "10.0.0.5", "proxy_interfaces": "8.8.4.4, [2001:4860::1]"},
            "10.0.0.5",
            ["8.8.4.4", "2001:4860::1"],
        ),
        ({"smtp_bind_address6": "2001:4860::1"}, "2001:4860::1", ["2001:4860::1"]),
        ({"inet_interfaces": "8.8.4.4"}, "8.8.4.4", ["8.8.4.4"]),
        ({"inet_interfaces": "127.0.0.1"}, None, None),
        ({"inet_protocols": "ipv4"}, "0.0.0.0", None),
    ],
)
def test_mail_leaves_from_where_it_left(given: dict[str, str], bind: str | None, egress: list[str] | None) -> None:
    found = keys(straightened(**given))
    assert (found.get("default.bind"), found.get("default.egress_ips")) == (bind, egress)


def test_limits_of_a_destination_become_those_of_a_domain() -> None:
    made = straightened(smtp_destination_concurrency_limit="7", smtp_destination_rate_delay="1s")
    assert keys(made)["default.connections_per_domain"] == 7
    assert settings(made, "smtpguard_destination_concurrency_limit") == ["250"]
    assert settings(made, "smtpguard_destination_rate_delay") == []
    assert "destination_rate_delay of 1s is left out" in " ".join(made.notes)
    assert "smtpguard unix - - n - 250 lmtp -o" in made.commands[0][2]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"smtp_tls_policy_maps": "hash:/x"}, "next_hop.strict"),
        ({"smtp_fallback_relay": "a.example"}, "waits in Postfix's queue"),
        ({"smtp_bind_address": "192.0.2.1", "smtp_bind_address6": "2001:db8::1"}, "bind is one address"),
    ],
)
def test_what_cannot_come_along_is_said(given: dict[str, str], words: str) -> None:
    assert words in " ".join(straightened(**given).notes)
    assert words not in " ".join(straightened().notes)


def test_a_postfix_that_has_smtpguard_already_is_not_planned_again() -> None:
    with pytest.raises(CannotPlan, match="init --undo"):
        straight.plan(facts(transport="smtpguard", destination="inet:[127.0.0.1]:10724"))


def test_the_lines_are_those_of_deploy() -> None:
    made = Plan(is_mx=True)
    hand_over(made, straight.UNTOUCHED, DOOR)
    shipped = re.findall(r"^(\w+) = (.*)$", (DEPLOY / "postfix/mx/main.cf").read_text(), re.M)
    assert {tuple(command[2].split("=", 1)) for command in made.commands[1:]} == set(shipped)
    service = re.sub(r"^#.*\n", "", (DEPLOY / "postfix/mx/master.cf").read_text(), flags=re.M)
    assert made.commands[0][2] == "smtpguard/unix=" + " ".join(service.split())

    def options(text: str) -> set[str]:
        return {line.strip() for line in text.splitlines() if line.strip() and line.strip()[0] != "#"}

    exim = options("\n".join(straight.exim(DOOR)))
    router, transports = ((DEPLOY / "exim" / name).read_text() for name in ("router", "transport"))
    assert exim == options(router) | options(transports.partition("smtpguard_smtp:")[0])
    assert straight.exim("unix:/run/smtpguard/lmtp.sock") == straight.exim("[::1]:10724") == ()


# --- how Postfix writes ----------------------------------------------------------------------------------------


def test_lists_of_tables() -> None:
    assert listed("hash:/a, proxy:mysql:/b\ttexthash:/c") == ["hash:/a", "proxy:mysql:/b", "texthash:/c"]
    assert listed("inline:{a=b, c=d} hash:/e") == ["inline:{a=b, c=d}", "hash:/e"]
    assert listed("inline:{ {[a.example]:587 = secure match=b} } hash:/e") == [
        "inline:{ {[a.example]:587 = secure match=b} }",
        "hash:/e",
    ]
    assert listed("") == []


def test_pairs() -> None:
    assert pairs("a = b = c\nempty =\nnoise\n") == {"a": "b = c", "empty": ""}


def test_host_and_port() -> None:
    assert host_and_port("[a.example]") == ("a.example", 25, True)
    assert host_and_port("a.example:465") == ("a.example", 465, False)
    for wrong in ("", "a b", "[a.example", "a.example:0", "a.example:99999"):
        with pytest.raises(ValueError, match=r"is not"):
            host_and_port(wrong)


# --- init without Postfix --------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SMTPGUARD_CONFIG", raising=False)


def init(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["init", "--config", "etc/smtpguard.toml", *arguments], prog_name="smtpguard")


def test_a_file_from_options() -> None:
    Path("word").write_text("secret\n")
    found = init(
        "--next-hop", "a.example,b.example:465", "--tls", "implicit", "--username", "u", "--password-file", "word"
    )
    assert found.exit_code == 0, found.stderr
    hop = load(Path("etc/smtpguard.toml"), {}).settings.next_hop["default"]
    assert (hop.host, hop.port, hop.tls, hop.username) == (("a.example", "b.example"), 465, "implicit", "u")
    assert found.stdout.startswith("wrote etc/smtpguard.toml\n")
    assert "Next: smtpguard check --config etc/smtpguard.toml" in found.stdout


def test_a_password_that_is_not_there_yet_is_asked_for() -> None:
    found = init("--next-hop", "smtp.example.net", "--username", "u", "--hostname", "mail.example.com")
    assert found.exit_code == 0, found.stderr
    place = Path("etc/password").absolute()
    assert f"\n  install -D -m 0600 /dev/stdin {place}\n" in found.stdout
    Path("etc/password").write_text("secret\n")
    loaded = load(Path("etc/smtpguard.toml"), {})
    assert loaded.settings.relay.hostname == "mail.example.com"
    assert loaded.settings.next_hop["default"].port == 587


def test_nothing_is_written_over_without_force() -> None:
    assert init("--next-hop", "a.example").exit_code == 0
    before = Path("etc/smtpguard.toml").read_bytes()
    found = init("--next-hop", "b.example")
    assert found.exit_code == 2
    assert "--force writes over it" in found.stderr
    assert Path("etc/smtpguard.toml").read_bytes() == before
    assert init("--next-hop", "b.example", "--force").exit_code == 0
    assert load(Path("etc/smtpguard.toml"), {}).settings.next_hop["default"].host == ("b.example",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--next-hop HOST"),
        (["--next-hop", "a,b, c:x"], "x is not a port"),
        (["--next-hop", "bad host"], "'bad host' is not a host"),
        (["--next-hop", " , "], "--next-hop HOST"),
        (["--next-hop", "a.example:25,b.example:587"], "one port"),
        (["--next-hop", "a_!.example"], "next_hop.default.host: 'a_!.example' is not a host"),
        (["--next-hop", "a.example", "--tls", "maybe"], "not one of none, opportunistic, required, implicit"),
        (["--next-hop", "a.example", "--tls", "none", "--username", "u"], "a login needs TLS"),
        (["--next-hop", "a.example", "--username", "u", "--password-file", "none"], "password_file: cannot be read"),
        (["--next-hop", "mx,a.example"], "mx stands alone"),
        (["--next-hop", "mx:2525"], "mx stands alone"),
        (["--next-hop", "mx", "--username", "u"], "username: is not for mx"),
        (
            ["--next-hop", "mx", "--egress", "a.example"],
            "next_hop.default.egress_ips: 'a.example' is not an IP address",
        ),
        (["--apply"], "needs --from-postfix"),
        (["--undo", "--from-postfix"], "stands alone"),
    ],
)
def test_wrong_use_writes_nothing(arguments: list[str], words: str) -> None:
    found = init(*arguments)
    assert found.exit_code == 2
    assert words in found.stderr
    assert not Path("etc/smtpguard.toml").exists()
    assert not Path("etc").exists() or list(Path("etc").iterdir()) == []


def test_for_machines() -> None:
    found = json.loads(init("--next-hop", "a.example", "--json").stdout)
    assert found["config"] == "etc/smtpguard.toml"
    assert found["wrote"] == ["etc/smtpguard.toml"]
    assert found["applied"] is False


def test_a_file_for_straight_to_the_receivers_and_the_lines_for_the_mta() -> None:
    found = init("--next-hop", "mx", "--egress", "203.0.113.7, 2001:db8::7", "--hostname", "mail.example.com")
    assert found.exit_code == 0, found.stderr
    hop = load(Path("etc/smtpguard.toml"), {}).settings.next_hop["default"]
    assert (hop.is_mx, hop.port, hop.tls, [str(each) for each in hop.egress_ips]) == (
        *(True, 25, "opportunistic"),
        ["203.0.113.7", "2001:db8::7"],
    )
    said = found.stdout
    order = [
        "Port 25",
        "PTR record",
        "SPF record",
        "Next: smtpguard check",
        "postconf -M",
        "The way back:",
        "-MX",
        "Exim:",
    ]
    assert sorted(order, key=said.index) == order
    assert "route_list = * 127.0.0.1::10724 byname" in said


def test_for_machines_straight_to_the_receivers() -> None:
    found = json.loads(init("--next-hop", "mx", "--json").stdout)
    assert ["postconf", "-e", "default_transport=smtpguard:inet:[127.0.0.1]:10724"] in found["commands"]
    assert found["back"][0] == ["postconf", "-MX", "smtpguard/unix"]
    assert found["needs"] == list(straight.NEEDS)


def test_a_reader_that_has_seen_enough_is_no_fault(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "smtpguard", "-c", str(tmp_path / "s.toml"), "init", "--next-hop", "mx"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write)
    assert done.stderr == ""
    assert (tmp_path / "s.toml").exists()
