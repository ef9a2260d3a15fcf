"""Sessions are of people who are signed in; who is on the way keeps a cookie, and no row."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Without those on the way (their names began with a line's end): they set out again."""
    op.execute(sa.text("DELETE FROM sessions WHERE name LIKE :begun").bindparams(begun="\n%"))


def downgrade() -> None:
    """There is nothing to bring back."""
