-- The ledger of version 1, as released: never edited, so that what leads from it is tested.

CREATE SCHEMA IF NOT EXISTS "cdc";

CREATE TABLE "cdc"."meta" (
one boolean PRIMARY KEY DEFAULT true CHECK (one),
version integer NOT NULL,
migrated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE "cdc"."checkpoint" (
pipeline text PRIMARY KEY,
phase text NOT NULL DEFAULT 'new',
epoch bigint NOT NULL DEFAULT 0,
system text,
timeline integer,
database text,
publication text,
slot text,
generation integer NOT NULL DEFAULT 0,
generation_started timestamptz,
position text,
commit_time timestamptz,
transactions bigint NOT NULL DEFAULT 0,
changes bigint NOT NULL DEFAULT 0,
holder text NOT NULL DEFAULT '',
backend_pid integer,
backend_start timestamptz,
seen_at timestamptz,
updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE "cdc"."failure" (
id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
pipeline text NOT NULL,
mapping text NOT NULL,
entity text NOT NULL,
source_table text NOT NULL,
operation text NOT NULL,
position text NOT NULL,
sequence bigint NOT NULL,
commit_time timestamptz,
parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
error_code text NOT NULL,
error_message text NOT NULL,
attempts integer NOT NULL DEFAULT 1,
state text NOT NULL DEFAULT 'parked',
payload jsonb NOT NULL,
mapping_version text NOT NULL,
lanes bytea[] NOT NULL DEFAULT '{}',
resolved_at timestamptz,
actor text,
reason text
);

CREATE TABLE "cdc"."failure_lane" (
pipeline text NOT NULL,
digest bytea NOT NULL,
failure bigint NOT NULL REFERENCES "cdc"."failure" (id) ON DELETE CASCADE,
PRIMARY KEY (pipeline, digest, failure)
);

CREATE TABLE "cdc"."backfill_chunk" (
pipeline text NOT NULL,
generation integer NOT NULL,
mapping text NOT NULL,
number integer NOT NULL DEFAULT 0,
rows bigint NOT NULL DEFAULT 0,
finished_at timestamptz,
PRIMARY KEY (pipeline, generation, mapping, number)
);

CREATE TABLE "cdc"."command" (
id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
pipeline text NOT NULL,
verb text NOT NULL,
arguments jsonb NOT NULL DEFAULT '{}',
actor text NOT NULL,
state text NOT NULL DEFAULT 'pending',
result jsonb,
created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
finished_at timestamptz
);

CREATE INDEX failure_open ON "cdc"."failure" (pipeline, id) WHERE state = 'parked';

CREATE INDEX failure_lane_failure ON "cdc"."failure_lane" (failure);

CREATE INDEX command_pending ON "cdc"."command" (pipeline, id) WHERE state = 'pending';

INSERT INTO "cdc"."meta" (version) VALUES (1);
