CREATE SCHEMA music;
COMMENT ON SCHEMA music IS 'What the shop sells';

CREATE SCHEMA staff;
COMMENT ON SCHEMA staff IS 'Who works in the shop';

CREATE SCHEMA sales;
COMMENT ON SCHEMA sales IS 'Who buys, and what they bought';
