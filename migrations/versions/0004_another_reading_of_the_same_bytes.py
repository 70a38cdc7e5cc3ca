"""Another reading of the same bytes: what a user asked for, and the dataset whose upload it shares."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("derived_from", sa.Text(), nullable=True))
    op.add_column("datasets", sa.Column("reading", sa.JSON(), nullable=True))
    op.create_index(op.f("ix_datasets_upload_key"), "datasets", ["upload_key"])


def downgrade() -> None:
    op.drop_index(op.f("ix_datasets_upload_key"), "datasets")
    op.drop_column("datasets", "reading")
    op.drop_column("datasets", "derived_from")
