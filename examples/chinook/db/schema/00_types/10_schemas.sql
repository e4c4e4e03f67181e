CREATE SCHEMA music;
COMMENT ON SCHEMA music IS 'What the shop sells';

CREATE SCHEMA staff;
COMMENT ON SCHEMA staff IS 'The employees of the shop';

CREATE SCHEMA sales;
COMMENT ON SCHEMA sales IS 'The customers, and what they bought';
