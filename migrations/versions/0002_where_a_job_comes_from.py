"""Where a job comes from: the job that it is a clone of, and the one whose network it trains on."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("cloned_from", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("start", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "start")
    op.drop_column("jobs", "cloned_from")
