-- Who may connect, in which group, proved by what. Times are Unix milliseconds; truth is 1; BYTEA columns named "sealed_…" are encrypted.

CREATE TABLE store_state (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    -- Raised by every change, in the change's own transaction. Its row is the lock that puts writers in a row.
    generation BIGINT NOT NULL,
    -- Which store.key this store is under: a name that says nothing about the key.
    key_name BYTEA NOT NULL,
    -- The key of the tokens' digests. That it can be opened is the proof that store.key is the right one.
    sealed_token_key BYTEA NOT NULL
);

CREATE TABLE device_group (
    id TEXT COLLATE BINARY NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    sealed_configuration BYTEA NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL
);

CREATE TABLE subscriber (
    imsi TEXT COLLATE BINARY NOT NULL PRIMARY KEY,
    imei TEXT,
    imei_lock BIGINT NOT NULL CHECK (imei_lock IN (0, 1)),
    iccid TEXT,
    group_id TEXT COLLATE BINARY CONSTRAINT subscriber_group_exists REFERENCES device_group (id),
    enabled BIGINT NOT NULL CHECK (enabled IN (0, 1)),
    -- The prefix's address in network byte order (4 or 16 bytes, host bits 0) and its length in bits.
    source_address BYTEA CHECK (length(source_address) IN (4, 16)),
    source_length BIGINT CHECK (source_length BETWEEN 0 AND 128),
    -- HMAC-SHA-256 of the token.
    token BYTEA CONSTRAINT subscriber_token UNIQUE CHECK (length(token) = 32),
    -- SHA-256 of the certificate's DER.
    certificate BYTEA CONSTRAINT subscriber_certificate UNIQUE CHECK (length(certificate) = 32),
    name TEXT NOT NULL,
    CHECK ((source_address IS NULL) = (source_length IS NULL))
);

-- A source alone tells who calls, so it tells one. With a token or a certificate many may share it.
CREATE UNIQUE INDEX subscriber_source ON subscriber (source_address, source_length)
    WHERE token IS NULL AND certificate IS NULL;
CREATE INDEX subscriber_group ON subscriber (group_id);

CREATE TABLE credential (
    id TEXT COLLATE BINARY NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    description TEXT NOT NULL,
    version BIGINT NOT NULL,
    sealed_secret BYTEA NOT NULL,
    not_after BIGINT,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL
);
