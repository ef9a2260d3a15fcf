"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ATTRIBUTES = (
    "used gain calibrated_speedup alone_speedup calibrated_seconds alone_seconds "
    "calibrated_rank alone_rank calibrated_top alone_top toolchain timings noise"
).split()
_TEXTS = (("bundle", 64), ("version", 32), ("channel", 8), ("architecture", 16), ("outcome", 16))


def _key(*, primary: bool) -> list[sa.Column[int] | sa.Column[str]]:
    texts = [sa.Column(n, sa.String(s), primary_key=primary, nullable=False) for n, s in _TEXTS]
    week = sa.Column("week", sa.Integer, primary_key=primary, nullable=False, autoincrement=False)
    return [week, *texts]


def upgrade() -> None:
    """Make them all, and the one row of ``progress``."""
    key_names = ["week", *(name for name, _ in _TEXTS)]
    op.create_table(
        "seen",
        sa.Column("week", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("dedupe", sa.LargeBinary(32), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reports",
        *_key(primary=False),
        *(sa.Column(name, sa.SmallInteger) for name in _ATTRIBUTES),
    )
    op.create_index("reports_by_key", "reports", key_names)
    op.create_table(
        "cells",
        *_key(primary=True),
        sa.Column("machines", sa.Integer, nullable=False),
        sa.CheckConstraint("machines > 0", name="cells_not_empty"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "parts",
        *_key(primary=True),
        sa.Column("attribute", sa.String(24), primary_key=True),
        sa.Column("value", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("machines", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("parts_by_attribute", "parts", ["attribute", "week"])
    progress = op.create_table(
        "progress",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("closed", sa.Integer, nullable=False),
        sa.Column("released_at", sa.BigInteger),
        sa.CheckConstraint("one = 1", name="progress_is_one_row"),
    )
    op.bulk_insert(progress, [{"one": 1, "closed": 0, "released_at": None}])
    op.create_table(
        "tokens",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_table(
        "users",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("argon2", sa.String(256), nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("sha256", sa.LargeBinary(32), primary_key=True),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("ends_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_sessions_ends_at", "sessions", ["ends_at"])


def downgrade() -> None:
    """Drop them all."""
    for name in ("sessions", "users", "tokens", "progress", "parts", "cells", "reports", "seen"):
        op.drop_table(name)
