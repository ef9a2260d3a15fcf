"""Threshold and late weeks are kept with the data; None until they are chosen."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Room for both."""
    op.add_column("progress", sa.Column("threshold", sa.Integer))
    op.add_column("progress", sa.Column("late_weeks", sa.Integer))


def downgrade() -> None:
    """Forget them."""
    op.drop_column("progress", "late_weeks")
    op.drop_column("progress", "threshold")
