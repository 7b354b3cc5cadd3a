"""Make the history.

Revision ID: 0001
Revises:
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

MOMENT = sa.DateTime(timezone=True)
DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    make_traces()
    make_findings()
    make_fingerprints()
    make_traffic()


def make_traces() -> None:
    op.create_table(
        "querytoll_traces",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("method", sa.Text()),
        sa.Column("route", sa.Text()),
        sa.Column("path", sa.Text()),
        sa.Column("status", sa.BigInteger()),
        sa.Column("began", MOMENT, nullable=False),
        sa.Column("elapsed", sa.Double(), nullable=False),
        sa.Column("statements", sa.BigInteger(), nullable=False),
        sa.Column("database_seconds", sa.Double(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("kept", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_querytoll_traces"),
    )
    op.create_index("ix_querytoll_traces_name_began", "querytoll_traces", ["name", "began"])
    op.create_index("ix_querytoll_traces_began", "querytoll_traces", ["began"])


def make_findings() -> None:
    op.create_table(
        "querytoll_findings",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("advice", sa.Text(), nullable=False),
        sa.Column("file", sa.Text()),
        sa.Column("line", sa.BigInteger()),
        sa.Column("function", sa.Text()),
        sa.Column("fingerprint", sa.Text()),
        sa.Column("summary", sa.Text()),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("evidence", DOCUMENT, nullable=False),
        sa.Column("plan", DOCUMENT),
        sa.Column("most", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.Double(), nullable=False),
        sa.Column("occurrences", sa.BigInteger(), nullable=False),
        sa.Column("first_seen", MOMENT, nullable=False),
        sa.Column("last_seen", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_querytoll_findings"),
    )
    op.create_index("ix_querytoll_findings_fingerprint", "querytoll_findings", ["fingerprint"])
    op.create_index("ix_querytoll_findings_last_seen", "querytoll_findings", ["last_seen"])
    op.create_table(
        "querytoll_sightings",
        sa.Column("finding_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hour", MOMENT, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("most", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.Double(), nullable=False),
        sa.Column("occurrences", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("finding_id", "name", "hour", name="pk_querytoll_sightings"),
        sa.ForeignKeyConstraint(
            ["finding_id"],
            ["querytoll_findings.id"],
            name="fk_querytoll_sightings_finding_id_querytoll_findings",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_querytoll_sightings_last_seen", "querytoll_sightings", ["last_seen"])
    op.create_table(
        "querytoll_trace_findings",
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("finding_id", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.Double(), nullable=False),
        sa.Column("last_seen", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("trace_id", "finding_id", name="pk_querytoll_trace_findings"),
        sa.ForeignKeyConstraint(
            ["trace_id"],
            ["querytoll_traces.id"],
            name="fk_querytoll_trace_findings_trace_id_querytoll_traces",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["finding_id"],
            ["querytoll_findings.id"],
            name="fk_querytoll_trace_findings_finding_id_querytoll_findings",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_querytoll_trace_findings_finding_id", "querytoll_trace_findings", ["finding_id"])


def make_fingerprints() -> None:
    op.create_table(
        "querytoll_fingerprints",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("first_seen", MOMENT, nullable=False),
        sa.Column("last_seen", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_querytoll_fingerprints"),
    )
    op.create_index("ix_querytoll_fingerprints_last_seen", "querytoll_fingerprints", ["last_seen"])


def make_traffic() -> None:
    op.create_table(
        "querytoll_traffic",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hour", MOMENT, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("statements", sa.BigInteger(), nullable=False),
        sa.Column("database_seconds", sa.Double(), nullable=False),
        sa.Column("most", sa.BigInteger(), nullable=False),
        sa.Column("longest", sa.Double(), nullable=False),
        sa.Column("last_seen", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", "hour", name="pk_querytoll_traffic"),
    )
    op.create_index("ix_querytoll_traffic_last_seen", "querytoll_traffic", ["last_seen"])
    op.create_table(
        "querytoll_uses",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("hour", MOMENT, nullable=False),
        sa.Column("most", sa.BigInteger(), nullable=False),
        sa.Column("file", sa.Text()),
        sa.Column("line", sa.BigInteger()),
        sa.Column("last_seen", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", "fingerprint", "hour", name="pk_querytoll_uses"),
    )
    op.create_index("ix_querytoll_uses_last_seen", "querytoll_uses", ["last_seen"])


def downgrade() -> None:
    for table in ("uses", "traffic", "fingerprints", "trace_findings", "sightings", "findings", "traces"):
        op.drop_table(f"querytoll_{table}")
