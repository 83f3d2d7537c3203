-- The derived database of one run folder. It may be deleted at any time: `ResultStore.ingest` builds it again from
-- plan.json, records/ and artefacts/. Plain types only, so that DuckDB 1.4 and later open it.
-- No keys or indexes: the ingestion keeps one row per trial, and columns without an index load fastest.

CREATE TABLE run (
    schema_number INTEGER,        -- of these tables; with another number they are rebuilt
    plan_digest   VARCHAR,        -- sha256 of plan.json, empty without one
    name          VARCHAR,
    question      VARCHAR,
    protocol      VARCHAR,        -- the plan's protocol, as JSON text
    axes          VARCHAR[],      -- axes that the sweep varies, in the order of the sweep file
    commands      VARCHAR[],      -- commands that ran the folder, in order; empty if the plan has none
    left_out      VARCHAR[]       -- what was left out of the dataset's folder, by reason, with numbers
);

-- The record files that were ingested, so that new and changed ones are found without opening the others.
CREATE TABLE files (
    file         VARCHAR,         -- relative to the run folder
    trial_id     VARCHAR,
    digest       VARCHAR,         -- sha256 of the record file's bytes
    signature    VARCHAR,         -- size, modification and change time of the record and of its artefacts
    curves_file  VARCHAR,
    outputs_file VARCHAR
);

-- One row per planned or recorded trial.
CREATE TABLE trials (
    trial_id            VARCHAR,
    cell_id             VARCHAR,
    method              VARCHAR,
    method_version      BIGINT,
    seed                BIGINT,
    status              VARCHAR,  -- done, diverged, collapsed, failed; missing: planned without a record
    reason              VARCHAR,
    planned             BOOLEAN,  -- whether plan.json has the trial
    protocol_name       VARCHAR,
    protocol_version    BIGINT,
    protocol_hash       VARCHAR,
    dataset_fingerprint VARCHAR,
    result_digest       VARCHAR,
    started             TIMESTAMP, -- UTC
    finished            TIMESTAMP, -- UTC
    attempts            BIGINT,
    train_seconds       DOUBLE,    -- includes making batches, also those made by other trials of the pack
    shared_seconds      DOUBLE,    -- the part of train_seconds for those
    solo_step_seconds   DOUBLE,    -- per update, while no other trial of its pack ran; NULL if measured too rarely
    evaluation_seconds  DOUBLE,
    images_seen         BIGINT,
    peak_memory_bytes   BIGINT,
    "commit"            VARCHAR,
    code_hash           VARCHAR,
    device              VARCHAR,
    "precision"         VARCHAR,
    "mode"              VARCHAR,   -- kernels: repro or fast
    threads             BIGINT,
    ranks               BIGINT,
    pack                BIGINT,    -- trials in its process, this one included
    cuda_graph          BOOLEAN,   -- on a GPU: whether updates were replayed as a CUDA graph
    host                VARCHAR,
    traceback           VARCHAR
);

CREATE TABLE protocols (
    hash       VARCHAR,
    name       VARCHAR,
    version    BIGINT,
    content    VARCHAR,           -- as JSON text, deviations applied
    deviations VARCHAR,           -- JSON list of {key, value, protocol_value, reason}
    base_hash  VARCHAR            -- hash of the protocol without the deviations; NULL if there are none
);

-- Every value that a trial ran with. `text` is always set, `number` if the value is a number.
-- source: settings (the method's), training (the loop's), derived (computed, such as a scaled learning rate).
CREATE TABLE settings (trial_id VARCHAR, source VARCHAR, name VARCHAR, number DOUBLE, text VARCHAR);

CREATE TABLE metrics (
    trial_id    VARCHAR,
    name        VARCHAR,
    variant     VARCHAR,          -- versioned way of measuring
    split       VARCHAR,          -- it was measured on
    value       DOUBLE,
    n_examples  BIGINT,
    selected_on VARCHAR,          -- split that chose the probe's settings
    candidates  BIGINT,           -- number of settings to choose from
    selected    VARCHAR           -- the chosen settings, as JSON text
);

CREATE TABLE curves (trial_id VARCHAR, epoch DOUBLE, name VARCHAR, value DOUBLE);

CREATE TABLE versions (trial_id VARCHAR, package VARCHAR, version VARCHAR);

-- Files that could not be ingested, and why. `record`: the record of an artefact, else the file itself.
CREATE TABLE set_aside (file VARCHAR, reason VARCHAR, record VARCHAR);
