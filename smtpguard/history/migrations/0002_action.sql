-- What policy made of a refusal, and by which other next hop it was tried; notices found by either of their ids.

ALTER TABLE refusals ADD COLUMN action TEXT NOT NULL DEFAULT '';
ALTER TABLE refusals ADD COLUMN detour TEXT NOT NULL DEFAULT '';

CREATE INDEX notices_event_id ON notices (event_id) WHERE event_id <> '';
CREATE INDEX notices_queue_id ON notices (queue_id) WHERE queue_id <> '';
