-- What the refusal meant for which mail is held or slowed down: what is answered here says the same, by the same names.

ALTER TABLE holds ADD COLUMN provider TEXT NOT NULL DEFAULT '';
ALTER TABLE holds ADD COLUMN cause TEXT NOT NULL DEFAULT '';
ALTER TABLE holds ADD COLUMN fix TEXT NOT NULL DEFAULT '';
ALTER TABLE throttles ADD COLUMN provider TEXT NOT NULL DEFAULT '';
ALTER TABLE throttles ADD COLUMN cause TEXT NOT NULL DEFAULT '';
ALTER TABLE throttles ADD COLUMN fix TEXT NOT NULL DEFAULT '';
