-- What the last changes changed, so that a gateway that knows generation N reads what came after it and not everything. A change that is not
-- noted here (by an older program, by hand) leaves a gap in the numbers, and who finds a gap reads everything. The mark is random: a database
-- that was restored and has gone another way since has other marks under the same numbers.

CREATE TABLE store_change (
    generation BIGINT NOT NULL PRIMARY KEY,
    mark BIGINT NOT NULL,
    -- "subscriber", "group", "credential", or "all".
    kind TEXT NOT NULL,
    id TEXT NOT NULL
);
