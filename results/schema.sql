-- The derived database of one run folder. It may be deleted at any time: `ResultStore.ingest` builds it again from
-- plan.json, records/ and artefacts/. Plain types only, so that DuckDB 1.4 and later open it.
-- No keys or indexes: the ingestion keeps one row per trial, and columns without an index load fastest.
-- `twinbench query --schema` and docs/results.md show the comments from here on.

-- One row about the run.
CREATE TABLE run (
    schema_number INTEGER,         -- of these tables; with another number they are rebuilt
    plan_digest   VARCHAR,         -- sha256 of plan.json, empty without one
    name          VARCHAR,         -- of the sweep
    question      VARCHAR,         -- that the sweep asks
    protocol      VARCHAR,         -- the plan's protocol, as JSON text
    axes          VARCHAR[],       -- axes that the sweep varies, in the order of the sweep file
    commands      VARCHAR[],       -- commands that ran the folder, in order; empty if the plan has none
    left_out      VARCHAR[],       -- what was left out of the dataset's folder, by reason, with numbers
    confirm_seeds BIGINT[]         -- seeds that select nothing, on which chosen cells are reported; empty without any
);

-- The record files that were ingested, so that new and changed ones are found without opening the others.
CREATE TABLE files (
    file         VARCHAR,          -- relative to the run folder
    trial_id     VARCHAR,          -- of the record
    digest       VARCHAR,          -- sha256 of the record file's bytes
    signature    VARCHAR,          -- size, modification and change time of the record and of its artefacts
    curves_file  VARCHAR,          -- relative to the run folder; NULL without curves
    outputs_file VARCHAR           -- relative to the run folder; NULL without outputs per example
);

-- One row per planned or recorded trial.
CREATE TABLE trials (
    trial_id            VARCHAR,   -- hash of all that defines the trial
    cell_id             VARCHAR,   -- hash of all that defines the trial except its seed
    method              VARCHAR,   -- name of the method
    method_version      BIGINT,    -- of the method's definition
    seed                BIGINT,    -- of all random numbers
    status              VARCHAR,   -- done, diverged, collapsed, failed; missing: planned without a record
    reason              VARCHAR,   -- why the trial did not end as done; empty if it did
    planned             BOOLEAN,   -- whether plan.json has the trial
    confirms            BOOLEAN,   -- whether its seed is one of confirm_seeds
    protocol_name       VARCHAR,   -- of the trial's protocol
    protocol_version    BIGINT,    -- of the trial's protocol
    protocol_hash       VARCHAR,   -- of the protocol's content, deviations applied
    dataset_fingerprint VARCHAR,   -- hash of all images and labels
    result_digest       VARCHAR,   -- equal for equal results
    started             TIMESTAMP, -- UTC
    finished            TIMESTAMP, -- UTC
    attempts            BIGINT,    -- number of times the trial was begun
    declared            BIGINT,    -- lines of the log of declarations when the trial began; NULL if not recorded
    declared_head       VARCHAR,   -- digest of the last of them
    train_seconds       DOUBLE,    -- includes making batches, also those made by other trials of the pack
    shared_seconds      DOUBLE,    -- the part of train_seconds for those
    solo_step_seconds   DOUBLE,    -- per update, while no other trial of its pack ran; NULL if measured too rarely
    evaluation_seconds  DOUBLE,    -- of the probes after training
    images_seen         BIGINT,    -- in training, repetitions counted
    peak_memory_bytes   BIGINT,    -- of the GPU, else of the process; NULL if trials shared the process
    "commit"            VARCHAR,   -- of the code
    code_hash           VARCHAR,   -- of the code that computes numbers
    device              VARCHAR,   -- cpu, or the name of the GPU
    "precision"         VARCHAR,   -- of the training: fp32, tf32 or bf16
    "mode"              VARCHAR,   -- kernels: repro or fast
    threads             BIGINT,    -- of the CPU, for one trial
    ranks               BIGINT,    -- processes that trained the trial together
    pack                BIGINT,    -- trials in its process, this one included
    cuda_graph          BOOLEAN,   -- on a GPU: whether updates were replayed as a CUDA graph
    host                VARCHAR,   -- name of the machine
    traceback           VARCHAR    -- of the error that ended a failed trial
);

-- One row per protocol of a trial.
CREATE TABLE protocols (
    hash       VARCHAR,            -- of the content
    name       VARCHAR,            -- such as digits-small
    version    BIGINT,             -- grows when the content changes
    content    VARCHAR,            -- as JSON text, deviations applied
    deviations VARCHAR,            -- JSON list of {key, value, protocol_value, reason}
    base_hash  VARCHAR             -- hash of the protocol without the deviations; NULL if there are none
);

-- Every value that a trial ran with.
CREATE TABLE settings (
    trial_id VARCHAR,              -- of the trial
    source   VARCHAR,              -- settings (the method's), training (the loop's) or derived (computed from these)
    name     VARCHAR,              -- of the setting
    number   DOUBLE,               -- the value if it is a number, else NULL
    text     VARCHAR               -- the value as text, which is always set
);

-- Every number that was measured after training.
CREATE TABLE metrics (
    trial_id    VARCHAR,           -- of the trial
    name        VARCHAR,           -- such as linear_top1
    variant     VARCHAR,           -- versioned way of measuring
    split       VARCHAR,           -- it was measured on
    value       DOUBLE,            -- accuracies are fractions of 1
    n_examples  BIGINT,            -- number of examples that it was measured on
    selected_on VARCHAR,           -- split that chose the probe's settings
    candidates  BIGINT,            -- number of settings to choose from
    selected    VARCHAR            -- the chosen settings, as JSON text
);

-- One row per measured point of a curve.
CREATE TABLE curves (
    trial_id VARCHAR,              -- of the trial
    epoch    DOUBLE,               -- at the end of which it was measured
    name     VARCHAR,              -- such as loss or diagnostics/feature_std
    value    DOUBLE                -- at that epoch
);

-- The packages that each trial ran with.
CREATE TABLE versions (
    trial_id VARCHAR,              -- of the trial
    package  VARCHAR,              -- its name
    version  VARCHAR               -- as the package states it
);

-- Files that could not be ingested, and why.
CREATE TABLE set_aside (
    file   VARCHAR,                -- relative to the run folder
    reason VARCHAR,                -- why it was not taken in
    record VARCHAR                 -- the record of an artefact, else the file itself
);
