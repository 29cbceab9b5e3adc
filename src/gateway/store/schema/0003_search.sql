-- Finding subscribers without reading them all: by group and name in the order of the IMSI, by the beginning of a name whatever its case,
-- by the beginning of the SIM id, and those seen last.

DROP INDEX subscriber_group;
CREATE INDEX subscriber_group ON subscriber (group_id, imsi);
CREATE INDEX subscriber_name ON subscriber (lower(name COLLATE BINARY), imsi);
CREATE INDEX subscriber_iccid ON subscriber (iccid COLLATE BINARY);
CREATE INDEX subscriber_seen_last ON subscriber_seen (seen, imsi);
