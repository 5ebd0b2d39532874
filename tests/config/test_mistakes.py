"""Every mistake a file can hold, with the line and the words it is told in."""

from __future__ import annotations

from pathlib import Path

import pytest

from smtpguard.config import ConfigError, load

HOP = '[next_hop.default]\nhost = "smtp.example.net"\n'

MISTAKES = [
    ('[listen]\nlmpt = "x"\n', "2: listen.lmpt: unknown key; did you mean 'lmtp'?"),
    ('[listne]\nlmtp = "x"\n', "1: listne: unknown key; did you mean 'listen'?"),
    ('[listen]\n\nTLS-Cert = "x"\n', "3: listen.TLS-Cert: unknown key; did you mean 'tls_cert'?"),
    ('hostname = "x"\n', "1: hostname: unknown key; did you mean 'relay.hostname'?"),
    ('tls_cert = "x"\n', "1: tls_cert: unknown key here; known in [listen] and [next_hop.default]"),
    ("[http]\nport = 9125\n", "2: http.port: unknown key here; known in [next_hop.default]"),
    ("[store]\nretention = '9d'\n", "2: store.retention: unknown key here; known in [privacy]"),
    ('listen = { smpt = "x" }\n', "1: listen.smpt: unknown key; did you mean 'smtp'?"),
    ('relay."a b" = 1\n', '1: relay."a b": unknown key'),
    ("[lint.rules]\nSPV = 'observe'\n", "2: lint.rules.SPV: is no rule, family or rule's name; did you mean"),
    ("[lint.rules]\nSPF = 'maybe'\n", "2: lint.rules.SPF: 'maybe' is not one of off, observe, defer, reject"),
    (
        "[[lint.except]]\nrules = ['HDR']\nsender_domain = ['-']\n",
        "3: lint.except[0].sender_domain: '-' is not a domain",
    ),
    ("[lint.dns]\nresolvers = ['ns.example']\n", "2: lint.dns.resolvers: 'ns.example' is not the address of a name"),
    ("[lint.rules]\nHDR007 = 'reject'\n", "2: lint.rules.HDR007: mail cannot be refused for it: write observe or off"),
    ("[lint.rules]\nNET = 'defer'\n", "2: lint.rules.NET: mail cannot be refused for it: write observe or off"),
    (
        "[lint.blocklists]\nip = ['zen.spamhaus.org', 'dnsbl.sorbs.net']\n",
        '2: lint.blocklists.ip: "dnsbl.sorbs.net" has ended (2024-06-05: SORBS was shut down): remove it',
    ),
    ("[lint]\nbudget = '10m'\n", "2: lint.budget: '10m' is more than 60s"),
    (
        "[[policy]]\nprovider = 'gogle'\n",
        "2: policy[0].provider: 'gogle' is not a known provider; did you mean 'google'?",
    ),
    (
        "[[policy]]\nprovider = 'gmail'\n",
        "2: policy[0].provider: 'gmail' is not a known provider; did you mean 'google'?",
    ),
    ("[[policy]]\nclass = '5'\n", "2: policy[0].class: '5' is not one of 0, 4, 5: write 5, without quotes"),
    (
        "[listen]\nproxy_protocol = 'True'\n",
        "2: listen.proxy_protocol: 'True' is not true or false: write true, without quotes",
    ),
    ("[next_hop]\nhost = 'a.example'\n", "2: next_hop.host: is not a table: write it below [next_hop.default]"),
    (
        "[[policy]]\nfrom_hop = 'default'\naction = 'reroute'\nto = 'default'\n",
        "4: policy[0].to: 'default' is in from_hop, too: name the next hop that is tried instead",
    ),
    ("[[policy]]\nclass = 3\n", "2: policy[0].class: 3 is not one of 0, 4, 5"),
    (
        "[[policy]]\ncategory = 'auth.spv'\n",
        "2: policy[0].category: 'auth.spv' is not a category; did you mean 'auth.spf'?",
    ),
    ("[[policy]]\naction = 'reroute'\n", "1: policy[0].to: is missing: name the next hop that is tried instead"),
    (
        "[[policy]]\naction = 'reroute'\nto = 'nowhere'\n",
        "3: policy[0].to: 'nowhere' is not one of the next hops: default",
    ),
    ("[[policy]]\nfrom_hop = 'nowhere'\n", "2: policy[0].from_hop: 'nowhere' is not one of the next hops: default"),
    ("[[policy]]\naction = 'throttle'\ninitial = '2h'\n", "3: policy[0].initial: is longer than max"),
    (
        "[[policy]]\naction = 'defer'\nprobe = '48h'\n",
        "3: policy[0].probe: is longer than hold: there would be no attempt",
    ),
    ("[[policy]]\nverb = 'PLEASE'\n", "2: policy[0].verb: 'PLEASE' is not one of"),
    ("[[policy]]\npermanence = 'forever'\n", "2: policy[0].permanence: 'forever' is not one of permanent,"),
    ("[suppression]\nnever = ['postmaster']\n", "2: suppression.never: 'postmaster' is not an address such as"),
    ("[store]\nurl = 'mysql://x'\n", '2: store.url: is not "", "sqlite:////path/of/file"'),
    ('[privacy]\nretention = "1m"\n', "2: privacy.retention: '1m' is less than 3600s"),
    ("[http]\ntoken = 's3cret'\n", "2: http.token: does not belong in this file: use token_file"),
    ("[listen\n", "1: not TOML: Expected ']' at the end of a table declaration (column 8)"),
    ("a = 1\nb = \n", "2: not TOML: Invalid value, text is written in quotes (column 5)"),
    ("a = 1\na = 2\n", "2: not TOML: Cannot overwrite a value (column 6)"),
    ('a = """\n\n', "1: not TOML: Unterminated string"),
    ("a = 1\n\nb = '\\xff'\n\xe9 = 1", "4: not TOML: Invalid statement (column 1)"),
    ("listen = 5\n", "1: listen: 5 is not a table"),
    ("next_hop = 5\n", "1: next_hop: 5 is not a table"),
    ("route = { next_hop = 'x' }\n", '1: route: {"next_hop": "x"} is not a list of tables: write [[route]]'),
    ("[relay]\nreceived_header = 'yes'\n", "2: relay.received_header: 'yes' is not true or false"),
    ("[relay]\nanswer_within = '500ms'\n", "2: relay.answer_within: '500ms' is less than 1s"),
    ("[relay]\nhostname = 'a b'\n", "2: relay.hostname: 'a b' is not a host name"),
    ("[relay]\nspool_dir = '/nonexistent'\n", "2: relay.spool_dir: '/nonexistent' is not a folder"),
    ("[relay]\nbare_newline = 'mend'\n", "2: relay.bare_newline: 'mend' is not one of reject, normalize"),
    ("[listen]\nmax_sessions = 0\n", "2: listen.max_sessions: 0 is less than 1"),
    ("[listen]\nmax_sessions = 1.5\n", "2: listen.max_sessions: 1.5 is not a whole number"),
    ("[listen]\nlmtp = ''\nsmtp = []\n", "1: listen: both doors are off: set lmtp or smtp"),
    ("[listen]\nsmtp = '0.0.0.0:10724'\n", "2: listen.smtp: 0.0.0.0:10724 is taken by listen.lmtp (127.0.0.1:10724)"),
    ("[listen]\nsmtp = ['unix:/a', 'unix:/a']\n", "2: listen.smtp: unix:/a is taken by listen.smtp (unix:/a)"),
    (
        "[http]\nlisten = '127.0.0.1:10725'\n",
        "2: http.listen: 127.0.0.1:10725 is taken by listen.smtp (127.0.0.1:10725)",
    ),
    (
        "[http]\nlisten = '0.0.0.0:9125'\n",
        "1: http.token_file: is missing: 0.0.0.0:9125 can be reached from other machines",
    ),
    (
        "[listen]\nallow = ['::/0']\n",
        "2: listen.allow: ::/0 would let strangers send mail through this relay: list your own networks",
    ),
    (
        "[listen]\ntrusted = '0.0.0.0/0'\n",
        "2: listen.trusted: 0.0.0.0/0 would let strangers pretend to be any client: list your own networks",
    ),
    (
        "[listen]\nproxy_protocol = true\ntrusted = []\n",
        "2: listen.proxy_protocol: listen.trusted is empty: nobody may send a PROXY header",
    ),
    ("[listen]\ntls_cert = '/x'\n", "1: listen.tls_key: is missing: tls_cert needs it"),
    (
        "[listen]\ntls_cert = '/nonexistent'\ntls_key = '/nonexistent'\n",
        "2: listen.tls_cert: '/nonexistent' cannot be read: no such file or directory",
    ),
    (
        "[listen]\nusers_file = '/nonexistent'\n",
        "1: listen.tls_cert: is missing: users_file needs it, as a login is taken inside TLS only",
    ),
    ("[listen]\nusers_file = '/nonexistent'\n", "2: listen.users_file: cannot be read: no such file or directory"),
    ("[[route]]\nnext_hop = 'x'\n", "2: route[0].next_hop: 'x' is not one of the next hops: default"),
    (
        "[[route]]\n[[route]]\nsender_domain = 'a b'\nnext_hop = 'default'\n",
        "3: route[1].sender_domain: 'a b' is not a domain",
    ),
    ("[[route]]\n", "1: route[0].next_hop: is missing"),
    ("[next_hop.x]\nport = 25\n", "1: next_hop.x.host: is missing"),
    ("[next_hop.'a b']\nhost = 'a.example'\n", '1: next_hop."a b": a next hop\'s name is of letters'),
    (
        "[next_hop.x]\nhost = 'a.example'\ntls = 'sometimes'\n",
        "3: next_hop.x.tls: 'sometimes' is not one of none, opportunistic, required, implicit",
    ),
    (
        "[next_hop.x]\nhost = 'sandbox'\ntls = 'required'\n",
        "3: next_hop.x.tls: the sandbox has no certificate: leave tls out",
    ),
    (
        "[next_hop.x]\nhost = 'localhost'\nport = 10725\n",
        "3: next_hop.x.port: localhost port 10725 is smtpguard itself: mail would go in circles",
    ),
    (
        "[next_hop.x]\nhost = 'a.example'\nusername = 'u'\n",
        "1: next_hop.x.password_file: is missing: username needs a password; the sample shows other ways",
    ),
    (
        "[next_hop.x]\nhost = 'a.example'\nusername = 'u'\ntls = 'none'\n",
        "3: next_hop.x.username: a login needs TLS: set tls = required or implicit",
    ),
    (
        "[next_hop.x]\nhost = 'a.example'\npassword = 'hunter2'\n",
        "3: next_hop.x.password: does not belong in this file: use password_file",
    ),
    (
        "[next_hop.x]\nhost = 'a.example'\ntls_ca_file = '/nonexistent'\n",
        "3: next_hop.x.tls_ca_file: '/nonexistent' cannot be read",
    ),
    (
        "[next_hop.x]\nhost = 'a.example'\ntimeout = { connect = '1s', final = 5 }\n",
        '3: next_hop.x.timeout.final: 5 has no unit: write "5s"',
    ),
    (
        "[next_hop.x]\nhost = 'a.example'\negress_ips = ['me']\n",
        "3: next_hop.x.egress_ips: 'me' is not an IP address",
    ),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[said.partition(": ")[2][:50] for _, said in MISTAKES])
def test_a_mistake_is_told_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    is_whole = text.startswith(("next_hop =", "a =", "[listen\n"))
    Path("smtpguard.toml").write_text(text if is_whole else text + HOP, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(None, {})
    told = [str(problem) for problem in caught.value.problems]
    assert any(each.startswith(f"smtpguard.toml:{said}") for each in told), told


def test_quotes_are_blamed_where_they_are_the_mistake_alone(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(f"[lint]\nmode = 'true'\n[relay]\nreceived_header = '1'\n[listen]\nmax_sessions = 'true'\n{HOP}")
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert [problem.message for problem in caught.value.problems] == [
        "'true' is not one of off, observe, enforce",
        "'1' is not true or false",
        "'true' is not a whole number",
    ]
