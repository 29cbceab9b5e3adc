-- When things were last in use. In tables of their own: they are written all the time, and no change of theirs is a change to who may
-- connect (the generation stays).

CREATE TABLE subscriber_seen (
    imsi TEXT COLLATE BINARY NOT NULL PRIMARY KEY REFERENCES subscriber (imsi) ON DELETE CASCADE,
    seen BIGINT NOT NULL,
    gateway TEXT NOT NULL
);

CREATE TABLE credential_used (
    id TEXT COLLATE BINARY NOT NULL PRIMARY KEY REFERENCES credential (id) ON DELETE CASCADE,
    used BIGINT NOT NULL
);
