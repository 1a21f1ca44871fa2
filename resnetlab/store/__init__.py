"""What lies on disk, and the only place that knows: schema, writer, reader, finding, measurements."""

from resnetlab.store.alive import is_alive
from resnetlab.store.checkpoints import Checkpoint, whole_ones
from resnetlab.store.find import (
    WITHOUT_WEIGHTS,
    Study,
    begun,
    find_run,
    find_studies,
    find_study,
    identities,
    label_of,
    made_of,
    metrics_of,
    notes,
    probes_of,
    read_study,
    start_of,
    table_of,
    unreadable,
    weights_named,
    weights_of,
)
from resnetlab.store.lock import BEING_WRITTEN, AnotherWriterError, being_written
from resnetlab.store.measurements import find_measurements, read_measurement, save_measurement
from resnetlab.store.plan import Plan, read_plan, write_plan
from resnetlab.store.pretrained import header, kept, shipped
from resnetlab.store.reader import (
    RunRecord,
    Skipped,
    finite,
    identity_of,
    pretrained_run,
    read_folder,
    read_json,
    read_lines,
    read_run,
    shipped_run,
)
from resnetlab.store.schema import (
    CHECKPOINTS,
    ENDED,
    EVALUATIONS_FILE,
    FIGURES,
    FINAL,
    IDENTITY,
    LESSON,
    LESSONS,
    LOGS,
    MEASUREMENTS,
    METRICS_FILE,
    NOTEBOOK_FILE,
    OF_REFERENCE,
    OUTCOME,
    PLAN_FILE,
    PROBES_FILE,
    QUEUED,
    REFERENCE,
    RESULTS_VARIABLE,
    RUN_FILE,
    SCHEMA,
    SCHEMA_VERSION,
    STARTED_AGAIN,
    STATUSES,
    SUMMARY_FILE,
    TIMING_FILE,
    Status,
    check_name,
    now,
    prepare_root,
    reference_root,
    results_root,
    significant,
    write_json,
)
from resnetlab.store.writer import RunWriter, add_evaluation, check_folder
