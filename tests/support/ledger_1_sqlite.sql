-- The SQLite ledger of version 1, as released: never edited, so that what leads from it is tested.

CREATE TABLE "cdc_meta" (
one INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
version INTEGER NOT NULL,
migrated_at TEXT NOT NULL
) STRICT;

CREATE TABLE "cdc_checkpoint" (
pipeline TEXT PRIMARY KEY NOT NULL,
phase TEXT NOT NULL DEFAULT 'new',
epoch INTEGER NOT NULL DEFAULT 0,
system TEXT,
timeline INTEGER,
database TEXT,
publication TEXT,
slot TEXT,
generation INTEGER NOT NULL DEFAULT 0,
generation_started TEXT,
position TEXT,
commit_time TEXT,
transactions INTEGER NOT NULL DEFAULT 0,
changes INTEGER NOT NULL DEFAULT 0,
holder TEXT NOT NULL DEFAULT '',
holder_pid INTEGER,
updated_at TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE "cdc_failure" (
id INTEGER PRIMARY KEY AUTOINCREMENT,
pipeline TEXT NOT NULL,
mapping TEXT NOT NULL,
entity TEXT NOT NULL,
source_table TEXT NOT NULL,
operation TEXT NOT NULL,
position TEXT NOT NULL,
sequence INTEGER NOT NULL,
commit_time TEXT,
parked_at TEXT NOT NULL,
error_code TEXT NOT NULL,
error_message TEXT NOT NULL,
attempts INTEGER NOT NULL DEFAULT 1,
state TEXT NOT NULL DEFAULT 'parked',
payload TEXT NOT NULL CHECK (json_valid(payload)),
mapping_version TEXT NOT NULL,
lanes TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(lanes)),
resolved_at TEXT,
actor TEXT,
reason TEXT
) STRICT;

CREATE TABLE "cdc_failure_lane" (
pipeline TEXT NOT NULL,
digest BLOB NOT NULL,
failure INTEGER NOT NULL REFERENCES "cdc_failure" (id) ON DELETE CASCADE,
PRIMARY KEY (pipeline, digest, failure)
) STRICT;

CREATE TABLE "cdc_backfill_chunk" (
pipeline TEXT NOT NULL,
generation INTEGER NOT NULL,
mapping TEXT NOT NULL,
number INTEGER NOT NULL DEFAULT 0,
rows INTEGER NOT NULL DEFAULT 0,
finished_at TEXT,
PRIMARY KEY (pipeline, generation, mapping, number)
) STRICT;

CREATE TABLE "cdc_command" (
id INTEGER PRIMARY KEY AUTOINCREMENT,
pipeline TEXT NOT NULL,
verb TEXT NOT NULL,
arguments TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(arguments)),
actor TEXT NOT NULL,
state TEXT NOT NULL DEFAULT 'pending',
result TEXT CHECK (result IS NULL OR json_valid(result)),
created_at TEXT NOT NULL,
finished_at TEXT
) STRICT;

CREATE INDEX cdc_failure_open ON cdc_failure (pipeline, id) WHERE state = 'parked';

CREATE INDEX cdc_failure_lane_failure ON cdc_failure_lane (failure);

CREATE INDEX cdc_command_pending ON cdc_command (pipeline, id) WHERE state = 'pending';

INSERT INTO "cdc_meta" (version, migrated_at) VALUES (1, strftime('%Y-%m-%d %H:%M:%f000+00'));
