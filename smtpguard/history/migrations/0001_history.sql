-- The history: what was refused and why, counts of the rest, and what policy remembers.
-- The same for SQLite and PostgreSQL. Times are seconds since the epoch; *_id is the keyed hash of an address (16 hex
-- digits), beside it the address as privacy.addresses shows it; '' is unknown or none.

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- A process that writes here, and the last batch that it wrote: a batch whose commit nobody heard of is not written twice.
CREATE TABLE nodes (
    id TEXT NOT NULL PRIMARY KEY,
    batch BIGINT NOT NULL,
    at DOUBLE PRECISION NOT NULL
);

-- Events: transactions that were not simply accepted, or in which lint found something.

CREATE TABLE transactions (
    id TEXT NOT NULL PRIMARY KEY,
    at DOUBLE PRECISION NOT NULL,
    outcome TEXT NOT NULL,
    door TEXT NOT NULL,
    queue_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    sender_id TEXT NOT NULL,
    sender_domain TEXT NOT NULL,
    next_hop TEXT NOT NULL,
    accepted BIGINT NOT NULL,
    refused BIGINT NOT NULL,
    size BIGINT NOT NULL,
    ms DOUBLE PRECISION NOT NULL,
    ms_receive DOUBLE PRECISION NOT NULL,
    ms_next_hop DOUBLE PRECISION NOT NULL,
    client_gone BIGINT NOT NULL
);
CREATE INDEX transactions_at ON transactions (at);
CREATE INDEX transactions_queue_id ON transactions (queue_id) WHERE queue_id <> '';

CREATE TABLE refusals (
    id TEXT NOT NULL,
    position BIGINT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    verb TEXT NOT NULL,
    code BIGINT NOT NULL,
    enhanced TEXT NOT NULL,
    text TEXT NOT NULL,
    answer BIGINT NOT NULL,
    category TEXT NOT NULL,
    rule TEXT NOT NULL,
    confidence DOUBLE PRECISION NOT NULL,
    provider TEXT NOT NULL,
    cause TEXT NOT NULL,
    fix TEXT NOT NULL,
    reference TEXT NOT NULL,
    source TEXT NOT NULL,
    rcpt TEXT NOT NULL,
    rcpt_id TEXT NOT NULL,
    rcpt_domain TEXT NOT NULL,
    rcpts BIGINT NOT NULL,
    host TEXT NOT NULL,
    next_hop TEXT NOT NULL,
    failure TEXT NOT NULL,
    PRIMARY KEY (id, position)
);
CREATE INDEX refusals_at ON refusals (at);

CREATE TABLE findings (
    id TEXT NOT NULL,
    position BIGINT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    rule TEXT NOT NULL,
    severity TEXT NOT NULL,
    action TEXT NOT NULL,
    answer BIGINT NOT NULL,
    message TEXT NOT NULL,
    rcpt TEXT NOT NULL,
    rcpt_id TEXT NOT NULL,
    outcome TEXT NOT NULL,
    PRIMARY KEY (id, position)
);
CREATE INDEX findings_at ON findings (at);

-- What DSNs and complaints told later (`smtpguard ingest`); id is made of what it says, so that it is kept once.
CREATE TABLE notices (
    id TEXT NOT NULL PRIMARY KEY,
    at DOUBLE PRECISION NOT NULL,
    kind TEXT NOT NULL,
    action TEXT NOT NULL,
    event_id TEXT NOT NULL,
    queue_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    sender_id TEXT NOT NULL,
    rcpt TEXT NOT NULL,
    rcpt_id TEXT NOT NULL,
    rcpt_domain TEXT NOT NULL,
    code BIGINT NOT NULL,
    enhanced TEXT NOT NULL,
    text TEXT NOT NULL,
    category TEXT NOT NULL,
    rule TEXT NOT NULL,
    provider TEXT NOT NULL,
    host TEXT NOT NULL,
    feedback TEXT NOT NULL
);
CREATE INDEX notices_at ON notices (at);

-- Counts by slot of time: rates and reports without a row a delivery.

CREATE TABLE acceptances (
    slot BIGINT NOT NULL,
    provider TEXT NOT NULL,
    sender_domain TEXT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (slot, provider, sender_domain)
);

CREATE TABLE tallies (
    slot BIGINT NOT NULL,
    category TEXT NOT NULL,
    provider TEXT NOT NULL,
    sender_domain TEXT NOT NULL,
    code BIGINT NOT NULL,
    enhanced TEXT NOT NULL,
    answer BIGINT NOT NULL,
    source TEXT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (slot, category, provider, sender_domain, code, enhanced, answer, source)
);

CREATE TABLE verdicts (
    slot BIGINT NOT NULL,
    rule TEXT NOT NULL,
    severity TEXT NOT NULL,
    action TEXT NOT NULL,
    answer BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (slot, rule, severity, action, answer, outcome)
);

-- What policy remembers, shared by all nodes.

CREATE TABLE suppressions (
    key TEXT NOT NULL PRIMARY KEY,
    since DOUBLE PRECISION NOT NULL,
    until DOUBLE PRECISION NOT NULL,
    address TEXT NOT NULL,
    code BIGINT NOT NULL,
    enhanced TEXT NOT NULL,
    text TEXT NOT NULL,
    category TEXT NOT NULL,
    source TEXT NOT NULL
);

CREATE TABLE strikes (
    key TEXT NOT NULL,
    message TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (key, message)
);

CREATE TABLE holds (
    key TEXT NOT NULL PRIMARY KEY,
    since DOUBLE PRECISION NOT NULL,
    until DOUBLE PRECISION NOT NULL,
    probe_at DOUBLE PRECISION NOT NULL,
    probe_s DOUBLE PRECISION NOT NULL,
    code BIGINT NOT NULL,
    enhanced TEXT NOT NULL,
    text TEXT NOT NULL,
    category TEXT NOT NULL
);

CREATE TABLE throttles (
    key TEXT NOT NULL PRIMARY KEY,
    since DOUBLE PRECISION NOT NULL,
    until DOUBLE PRECISION NOT NULL,
    probe_at DOUBLE PRECISION NOT NULL,
    delay DOUBLE PRECISION NOT NULL,
    code BIGINT NOT NULL,
    enhanced TEXT NOT NULL,
    text TEXT NOT NULL,
    category TEXT NOT NULL
);

CREATE TABLE routes (
    key TEXT NOT NULL PRIMARY KEY,
    since DOUBLE PRECISION NOT NULL,
    until DOUBLE PRECISION NOT NULL,
    next_hop TEXT NOT NULL
);
