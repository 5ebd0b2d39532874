-- MTA-STS policies that were fetched, by domain: a restart must not forget that mail was to be sent in TLS or not at all.
-- `since` is when it was fetched, `until` that and its max_age; `mx` the names of the mail hosts, a space between them.

CREATE TABLE tls_policies (
    key TEXT NOT NULL PRIMARY KEY,
    since DOUBLE PRECISION NOT NULL,
    until DOUBLE PRECISION NOT NULL,
    id TEXT NOT NULL,
    mode TEXT NOT NULL,
    mx TEXT NOT NULL
);
