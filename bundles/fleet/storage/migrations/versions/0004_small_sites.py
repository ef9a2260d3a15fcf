"""Evidence over weeks, machines with a label, and the week in which a token was last used."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_TEXTS = (("bundle", 64), ("version", 32), ("channel", 8), ("architecture", 16), ("outcome", 16))


def _key(*, primary: bool) -> list[sa.Column[int] | sa.Column[str]]:
    texts = [sa.Column(n, sa.String(s), primary_key=primary, nullable=False) for n, s in _TEXTS]
    week = sa.Column("week", sa.Integer, primary_key=primary, nullable=False, autoincrement=False)
    return [week, *texts]


def upgrade() -> None:
    """What waits is of machines without a label: none was sent before."""
    op.add_column(
        "reports", sa.Column("labelled", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.add_column("tokens", sa.Column("heard_week", sa.Integer))
    op.create_table(
        "firsts",
        *_key(primary=False),
        sa.Column("labelled", sa.Boolean, nullable=False),
        sa.Column("used", sa.SmallInteger),
    )
    op.create_index("firsts_by_key", "firsts", [name for name, _ in _TEXTS])
    op.create_table(
        "evidence",
        *_key(primary=True),
        sa.Column("value", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("machines", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "labelled",
        sa.Column("label", sa.String(32), primary_key=True),
        sa.Column("week", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.String(size), nullable=False) for name, size in _TEXTS),
        sa.Column("calibrated", sa.SmallInteger),
        sa.Column("alone", sa.SmallInteger),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Forget them."""
    for name in ("labelled", "evidence", "firsts"):
        op.drop_table(name)
    op.drop_column("tokens", "heard_week")
    op.drop_column("reports", "labelled")
