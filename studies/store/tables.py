"""The tables of the database, from which everything else can be rebuilt.

Alembic's migrations create them; a test checks that both agree.
"""

__all__ = [
    "UTC_TIME",
    "arm",
    "artifact",
    "audit",
    "deletion",
    "delivery",
    "event",
    "layer_measurement",
    "measurement",
    "metadata",
    "notes",
    "offer",
    "pack_output",
    "session",
    "stack_width",
    "storable",
    "study",
    "token",
    "trial",
    "trial_layers",
    "trial_output",
    "verdict_phrase",
    "webhook",
    "workload_check",
]

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)


class _UtcTime(TypeDecorator[datetime]):
    """Aware UTC datetimes; SQLite would return them without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    # SQLAlchemy's signature.
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the datetime in UTC.

        Raises:
            ValueError: the datetime has no zone.
        """
        if value is not None and value.tzinfo is None:
            raise ValueError(f"expected an aware datetime, got {value!r}")
        return None if value is None else value.astimezone(UTC)

    # SQLAlchemy's signature.
    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the stored datetime with its zone."""
        return value if value is None or value.tzinfo is not None else value.replace(tzinfo=UTC)


class _Text(TypeDecorator[str]):
    """Short text that both databases can store and look up.

    PostgreSQL rejects NUL, and both reject lone surrogates; each becomes a question mark, which no identifier
    contains. So a malformed identifier is looked up and not found.
    """

    impl = String
    cache_ok = True

    # SQLAlchemy's signature.
    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the text in a form that can be stored."""
        return None if value is None else storable(value)


def storable(text: str) -> str:
    """Return text that both databases can store: NUL and lone surrogates become question marks."""
    return text.replace("\0", "?").encode("utf-8", "replace").decode("utf-8")


UTC_TIME = _UtcTime()

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)


def _study_key(*, primary: bool) -> Column[Any]:
    return Column(
        "study_id", _Text(16), ForeignKey("study.id", ondelete="CASCADE"), primary_key=primary, nullable=False
    )


study = Table(
    "study",
    metadata,
    Column("id", _Text(16), primary_key=True),
    Column("name", _Text(200), nullable=False),
    Column("workload", _Text(64), nullable=False, index=True),
    Column("suite", _Text(64), index=True),
    Column("spec", JSON, nullable=False, doc="StudySpec, with shorthands expanded"),
    Column(
        "resolved",
        JSON,
        nullable=False,
        doc="ResolvedStudy: the cards and spaces at the time when each arm was submitted",
    ),
    # An absent environment is SQL's NULL, not JSON's null.
    Column(
        "environment",
        JSON(none_as_null=True),
        doc="the environment that trained it: versions and processors by name",
    ),
    Column(
        "card_differences",
        JSON(none_as_null=True),
        doc="CardDifferences between the workload's card and its data; NULL: none were found",
    ),
    Column(
        "check_results",
        JSON(none_as_null=True),
        doc="CheckResults of its workload before the first trial; NULL: it was not checked",
    ),
    Column(
        "scale_invariance",
        JSON(none_as_null=True),
        doc="whether each tested layer is scale-invariant, by name; NULL: that was not tested yet",
    ),
    Column("state", _Text(16), nullable=False, index=True),
    Column("state_reason", Text),
    Column("version", Integer, nullable=False, doc="number of changes of state"),
    Column("last_event", Integer, nullable=False, doc="number of the newest event"),
    # The default is for rows of older versions.
    Column(
        "notes_version",
        Integer,
        nullable=False,
        server_default="0",
        doc="number of its newest notes, and so of its events `study.noted`",
    ),
    Column("owner", _Text(64)),
    Column("idempotency_key", _Text(255), unique=True),
    Column("idempotency_digest", _Text(64)),
    Column("lease_owner", _Text(128), doc="dispatcher that has claimed the study"),
    Column("lease_expires_at", UTC_TIME),
    Column("turn_at", UTC_TIME, doc="when it was last claimed or released"),
    # The default is for rows of older versions.
    Column("priority", Integer, nullable=False, server_default="1", doc="0 low, 1 normal, 2 high"),
    Column(
        "machines",
        _Text(128),
        doc="the Ray cluster of its current or last run; NULL: not reported yet",
    ),
    Column("packs_wanted", Integer, doc="packs that its run could train at once; NULL: not reported yet"),
    Column(
        "attempt",
        Integer,
        nullable=False,
        doc="number of claims and extensions; writes of older attempts are rejected",
    ),
    Column("created_at", UTC_TIME, nullable=False, index=True),
    Column("queued_at", UTC_TIME, doc="when it was last extended and so queued again; NULL: never"),
    Column("started_at", UTC_TIME),
    Column("ended_at", UTC_TIME),
    Column("archived_at", UTC_TIME, doc="when it was hidden from the list; NULL: it is in the list"),
    Index(None, "owner", "turn_at"),
)

deletion = Table(
    "deletion",
    metadata,
    Column("study_id", _Text(16), primary_key=True, doc="a study that was deleted"),
    Column("owner", _Text(64), index=True),
    Column("gpu_s", Float, nullable=False, doc="GPU-seconds that it had used; quotas count them"),
    Column("epochs", Integer, nullable=False, doc="epochs of its trials; metrics count them"),
    Column(
        "retries", Integer, nullable=False, doc="attempts at its trials that were lost; metrics count them"
    ),
    Column("deleted_at", UTC_TIME, nullable=False, index=True),
)

arm = Table(
    "arm",
    metadata,
    _study_key(primary=True),
    Column("position", Integer, primary_key=True),
    Column("name", _Text(64), nullable=False),
    Column("optimizer", _Text(64), nullable=False),
    Column("trials", Integer, nullable=False, doc="trials of its search, over all replicates"),
)

trial = Table(
    "trial",
    metadata,
    Column("id", _Text(96), primary_key=True),
    _study_key(primary=False),
    Column("arm", _Text(64), nullable=False),
    # The defaults are for rows of older versions: SQLite can add a NOT NULL column only with a default.
    Column("phase", _Text(16), nullable=False, server_default="search", doc="search or confirmation"),
    Column("number", Integer, nullable=False, doc="its place in its arm and phase"),
    Column("confirms", Integer, doc="number of the search's trial that a confirmation run repeats"),
    Column("state", _Text(16), nullable=False),
    Column("origin", _Text(16), nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("replicate", Integer, nullable=False),
    Column("pair_index", Integer, doc="number of its pair in its replicate; NULL: it is not paired"),
    Column("seed", BigInteger, nullable=False),
    Column(
        "attempt",
        Integer,
        nullable=False,
        doc="number of the attempt; reports of older attempts are rejected",
    ),
    Column("retries", Integer, nullable=False, doc="attempts that were lost to a fault"),
    Column("value", Float),
    Column("best_epoch", Integer),
    Column("test_value", Float),
    Column("test_metrics", JSON(none_as_null=True), doc="test values of further metrics; NULL: it has none"),
    Column("epochs_done", Integer, nullable=False),
    Column(
        "to_epoch",
        Integer,
        nullable=False,
        server_default="0",
        doc="epoch to train to next, a rung or the last; a trial that has reached a rung waits",
    ),
    Column(
        "bracket",
        Integer,
        nullable=False,
        server_default="0",
        doc="Hyperband bracket; 0 for every other pruner",
    ),
    Column("checkpoint", Text, doc="URL of its checkpoint after checkpoint_epoch epochs"),
    Column(
        "checkpoint_epoch",
        Integer,
        doc="epoch after which a lost trial resumes; NULL: it starts again",
    ),
    Column("pack_size", Integer, doc="number of trials in its last pack"),
    Column("pack_started_at", UTC_TIME, doc="when its last pack started; NULL: not known"),
    Column("pack_epochs", Integer, doc="epochs that it had trained before that pack; NULL: not known"),
    *(
        Column(name, BigInteger, doc="its share of the peak of its packs, the highest; NULL: not measured")
        for name in ("memory_bytes", "device_memory_bytes")
    ),
    Column("cost_s", Float, nullable=False, doc="training seconds of its completed epochs"),
    # The default is for rows of older versions.
    Column(
        "charged_s",
        Float,
        nullable=False,
        server_default="0",
        doc="its share of the wall time of all its packs, repeated attempts included; quotas count it",
    ),
    Column("reason", Text),
    Column("traceback", Text, doc="frames of the workload's error; NULL: it did not fail with one"),
    Column("worker", _Text(128)),
    Column("heard_at", UTC_TIME, doc="when its worker last said that it goes on"),
    Column("step", Integer, doc="steps since its last epoch, as its worker said then; NULL: not known"),
    Column(
        "copy_state", Integer, nullable=False, doc="its copy in Optuna's storage: 0 none, 1 done, 2 begun"
    ),
    Column("created_at", UTC_TIME, nullable=False),
    Column("started_at", UTC_TIME),
    Column("ended_at", UTC_TIME),
    Index(None, "study_id", "arm", "phase", "number", unique=True),
    Index(None, "study_id", "state"),
)

measurement = Table(
    "measurement",
    metadata,
    Column("trial_id", _Text(96), ForeignKey("trial.id", ondelete="CASCADE"), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("elapsed_s", Float, nullable=False),
    *(
        Column(name, Float)
        for name in (
            "lr",
            "train_loss",
            "validation_loss",
            "validation_metric",
            "weight_norm",
            "effective_step",
            "projected_fraction",
            "gradient_cosine",
        )
    ),
    Column("metrics", JSON(none_as_null=True), doc="validation values of further metrics; NULL: it has none"),
)

trial_layers = Table(
    "trial_layers",
    metadata,
    Column("trial_id", _Text(96), ForeignKey("trial.id", ondelete="CASCADE"), primary_key=True),
    Column("names", JSON, nullable=False, doc="names of the weights that its probes measure one by one"),
    Column("initial_norms", JSON, nullable=False, doc="their norms before the first step; empty: not known"),
)

layer_measurement = Table(
    "layer_measurement",
    metadata,
    Column("trial_id", _Text(96), ForeignKey("trial.id", ondelete="CASCADE"), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column(
        "measured",
        JSON,
        nullable=False,
        doc="LayerMeasurement without the epoch: lists of one number a layer",
    ),
)

pack_output = Table(
    "pack_output",
    metadata,
    Column("pack_id", _Text(32), primary_key=True),
    _study_key(primary=False),
    Column(
        "text", Text, nullable=False, doc="the end of what its worker printed, without control characters"
    ),
    Column("size", BigInteger, nullable=False, doc="bytes that its worker printed in all"),
    Column("written_at", UTC_TIME, nullable=False),
    Index(None, "study_id"),
)

trial_output = Table(
    "trial_output",
    metadata,
    Column("trial_id", _Text(96), ForeignKey("trial.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "pack_id",
        _Text(32),
        ForeignKey("pack_output.pack_id", ondelete="CASCADE"),
        nullable=False,
        index=True,
        doc="its last pack that printed anything",
    ),
    Column("attempt", Integer, nullable=False, doc="number of the attempt in that pack"),
)

artifact = Table(
    "artifact",
    metadata,
    Column("id", _Text(32), primary_key=True, doc="names the file in its study's folder of artifacts"),
    _study_key(primary=False),
    Column("trial_id", _Text(96), ForeignKey("trial.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("kind", _Text(16), nullable=False),
    Column("weights_of", _Text(16), doc="best or defaults; NULL: it holds no weights"),
    Column("name", _Text(255), nullable=False, doc="the name to show and to download it by"),
    Column("size", BigInteger, nullable=False, doc="in bytes"),
    Column("sha256", _Text(64), doc="NULL: it was not kept"),
    Column("url", Text, doc="where the file is, as its run named it; NULL: it was not kept"),
    Column("reason", Text, doc="why it was not kept"),
    Column("created_at", UTC_TIME, nullable=False),
    Index(None, "study_id"),
)

event = Table(
    "event",
    metadata,
    _study_key(primary=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", _Text(32), nullable=False),
    Column("at", UTC_TIME, nullable=False),
    Column("data", JSON, nullable=False),
)

notes = Table(
    "notes",
    metadata,
    _study_key(primary=True),
    Column("version", Integer, primary_key=True, autoincrement=False, doc="from 1 without gaps"),
    Column("text", Text, nullable=False, doc="Markdown; empty: the notes were removed"),
    Column("author", _Text(64), doc="name of the token; NULL on an open service and for the operator"),
    Column("at", UTC_TIME, nullable=False),
)

verdict_phrase = Table(
    "verdict_phrase",
    metadata,
    _study_key(primary=True),
    Column("text", Text, nullable=False, doc="the verdict of a closed study; empty: it has none"),
    Column(
        "changes",
        Integer,
        nullable=False,
        key="events_without_notes",
        doc="number of the study's events, not counting `study.noted`, when it was analysed",
    ),
    Column("program", _Text(128), nullable=False, doc="version of the phrases when it was written"),
)

offer = Table(
    "offer",
    metadata,
    Column("kind", _Text(16), primary_key=True, doc="optimizer, workload, broken or dispatcher"),
    Column("name", _Text(128), primary_key=True),
    Column("card", JSON, nullable=False),
    Column("dispatcher", _Text(128), nullable=False),
    Column("seen_at", UTC_TIME, nullable=False),
)

# Named `fit` in the database.
stack_width = Table(
    "fit",
    metadata,
    Column("workload", _Text(64), primary_key=True),
    Column("optimizer", _Text(64), primary_key=True),
    Column("batch_size", Integer, primary_key=True, autoincrement=False),
    Column("device", _Text(128), primary_key=True, doc="cpu, or the GPU's name"),
    Column("card", JSON, nullable=False, doc="StackWidthView without the key and the time"),
    Column("measured_at", UTC_TIME, nullable=False),
)

workload_check = Table(
    "workload_check",
    metadata,
    Column("workload", _Text(64), primary_key=True),
    Column("package", _Text(255), primary_key=True, doc="PackageVersion of its package as text"),
    Column("batch_size", Integer, primary_key=True, autoincrement=False),
    Column("device", _Text(128), primary_key=True, doc="cpu or gpu"),
    Column("optimizer", _Text(64), primary_key=True, doc="what the check trains with"),
    Column("budget", _Text(16), primary_key=True, doc="epochs or steps: what a script is trained for"),
    Column("results", JSON, nullable=False, doc="CheckResults"),
    Column("checked_at", UTC_TIME, nullable=False),
)

token = Table(
    "token",
    metadata,
    Column("name", _Text(64), primary_key=True),
    Column("digest", _Text(64), nullable=False, unique=True, doc="SHA-256 of a 256-bit random secret"),
    Column("role", _Text(16), nullable=False),
    Column("created_at", UTC_TIME, nullable=False),
    Column("revoked_at", UTC_TIME),
    Column("last_used_at", UTC_TIME),
    Column("max_studies", Integer, doc="studies open at once; NULL: no limit"),
    Column("max_trials", Integer, doc="trials of one study; NULL: no limit"),
    Column("max_gpu_hours", Float, doc="GPU-hours of all its studies; NULL: no limit"),
)

session = Table(
    "session",
    metadata,
    Column("digest", _Text(64), primary_key=True, doc="SHA-256 of the cookie's 256-bit random secret"),
    Column("token", _Text(64), ForeignKey("token.name", ondelete="CASCADE"), nullable=False),
    Column("created_at", UTC_TIME, nullable=False),
    Column("expires_at", UTC_TIME, nullable=False, index=True),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", UTC_TIME, nullable=False),
    Column(
        "actor",
        _Text(64),
        index=True,
        doc="name of the token; NULL on an open service and for commands on the database",
    ),
    Column("verb", _Text(32), nullable=False),
    Column("study_id", _Text(16), index=True),
    Column("subject", _Text(64), doc="name of the token or of the deleted study, or id of the webhook"),
    Column("address", _Text(255)),
)

webhook = Table(
    "webhook",
    metadata,
    Column("id", _Text(16), primary_key=True),
    Column("owner", _Text(64), index=True, doc="name of the token that created it; NULL on an open service"),
    Column("url", Text, nullable=False),
    # Not hashed like a token's: every signature needs it.
    Column("secret", _Text(64), nullable=False, doc="whsec_ and 32 random bytes in base64"),
    Column("events", JSON, nullable=False, doc="names of the events that it reports, or study.*"),
    Column("studies", _Text(8), nullable=False, doc="own: only its owner's studies; all: everyone's"),
    Column("suite", _Text(64), doc="only studies of this suite; NULL: any"),
    Column("created_at", UTC_TIME, nullable=False),
    Column("delivered_at", UTC_TIME, doc="when its receiver last accepted a delivery"),
    Column(
        "failing_since", UTC_TIME, doc="time of the first failed attempt since the last accepted delivery"
    ),
    Column("disabled_at", UTC_TIME, doc="NULL: it is enabled"),
    Column("disabled_reason", Text),
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", _Text(40), primary_key=True, doc="the webhook-id of the message"),
    Column("webhook_id", _Text(16), ForeignKey("webhook.id", ondelete="CASCADE"), nullable=False),
    Column("study_id", _Text(16), doc="NULL: a ping"),
    Column("event", _Text(32), nullable=False),
    Column("body", Text, nullable=False, doc="the body, exactly as it is signed and sent"),
    Column("state", _Text(16), nullable=False, doc="pending, delivered or failed"),
    Column("attempts", Integer, nullable=False, doc="attempts begun; results of older attempts are ignored"),
    Column("status_code", Integer),
    Column("error", Text),
    Column("created_at", UTC_TIME, nullable=False),
    Column(
        "due_at",
        UTC_TIME,
        index=True,
        doc="when it is sent next or, during an attempt, when the lease ends; NULL: ended",
    ),
    Column("ended_at", UTC_TIME, index=True, doc="when it was accepted or given up"),
    Index(None, "webhook_id", "created_at"),
)
