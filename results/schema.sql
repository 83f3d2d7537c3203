-- The derived database of one run folder. It may be deleted at any time: `ResultStore.ingest` builds it again from
-- plan.json, records/ and artefacts/. Plain types only, so that DuckDB 1.4 and later open it.
-- No keys or indexes: the ingestion sees to it that a trial stands once, and unindexed columns load fastest.

CREATE TABLE run (
    schema_number INTEGER,        -- of these tables; another number means: build anew
    plan_digest   VARCHAR,        -- sha256 of plan.json, empty without one
    name          VARCHAR,
    question      VARCHAR,
    protocol      VARCHAR,        -- the plan's protocol, as JSON text
    axes          VARCHAR[],      -- the axes that the sweep moves, in the order of the sweep file
    commands      VARCHAR[]       -- those that the folder was run by, in their order; empty where it does not say
);

-- What was read in, to tell new and changed files from known ones without opening them.
CREATE TABLE files (
    file         VARCHAR,         -- relative to the run folder
    trial_id     VARCHAR,
    digest       VARCHAR,         -- sha256 of the record file's bytes
    signature    VARCHAR,         -- size and modification time of the record and of its artefacts
    curves_file  VARCHAR,
    outputs_file VARCHAR
);

-- One row per trial that was planned or recorded.
CREATE TABLE trials (
    trial_id            VARCHAR,
    cell_id             VARCHAR,
    method              VARCHAR,
    method_version      BIGINT,
    seed                BIGINT,
    status              VARCHAR,  -- done, diverged, collapsed, failed; missing: planned and not recorded
    reason              VARCHAR,
    planned             BOOLEAN,  -- stands in plan.json
    protocol_name       VARCHAR,
    protocol_version    BIGINT,
    protocol_hash       VARCHAR,
    dataset_fingerprint VARCHAR,
    result_digest       VARCHAR,
    started             TIMESTAMP, -- UTC
    finished            TIMESTAMP, -- UTC
    attempts            BIGINT,
    train_seconds       DOUBLE,    -- of a batch that another trial of the pack made it counts the making
    shared_seconds      DOUBLE,    -- which is this much of it
    solo_step_seconds   DOUBLE,    -- of an update, with nothing of its pack beside it; NULL where few were made
    evaluation_seconds  DOUBLE,
    images_seen         BIGINT,
    peak_memory_bytes   BIGINT,
    "commit"            VARCHAR,
    code_hash           VARCHAR,
    device              VARCHAR,
    "precision"         VARCHAR,
    "mode"              VARCHAR,   -- of kernels: repro or fast
    threads             BIGINT,
    ranks               BIGINT,
    pack                BIGINT,    -- trials that took turns in its process, itself among them
    cuda_graph          BOOLEAN,   -- on a GPU: whether updates were replayed as one, or launched kernel by kernel
    host                VARCHAR,
    traceback           VARCHAR
);

CREATE TABLE protocols (
    hash       VARCHAR,
    name       VARCHAR,
    version    BIGINT,
    content    VARCHAR,           -- as JSON text, deviations applied
    deviations VARCHAR,           -- JSON list of {key, value, protocol_value, reason}
    base_hash  VARCHAR            -- of the protocol that is deviated from, NULL without deviations
);

-- Every value a trial ran with. `text` is always there; `number` where the value is one.
-- source: settings (the method's), training (the loop's), derived (what came of them, such as a scaled learning rate).
CREATE TABLE settings (trial_id VARCHAR, source VARCHAR, name VARCHAR, number DOUBLE, text VARCHAR);

CREATE TABLE metrics (
    trial_id    VARCHAR,
    name        VARCHAR,
    variant     VARCHAR,          -- the versioned way it was measured
    split       VARCHAR,          -- measured on
    value       DOUBLE,
    n_examples  BIGINT,
    selected_on VARCHAR,          -- the split that chose its hyper-parameters
    candidates  BIGINT,           -- out of how many
    selected    VARCHAR           -- what was chosen, as JSON text
);

CREATE TABLE curves (trial_id VARCHAR, epoch DOUBLE, name VARCHAR, value DOUBLE);

CREATE TABLE versions (trial_id VARCHAR, package VARCHAR, version VARCHAR);

-- Files that could not be taken in, and why. `record`: the record an artefact belongs to, else the file itself.
CREATE TABLE set_aside (file VARCHAR, reason VARCHAR, record VARCHAR);
