"""Datasets whose rows only measure, and what the test rows of a job have come to."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

DATASETS = ("validation_dataset_id", "test_dataset_id")


def upgrade() -> None:
    for name in DATASETS:
        op.add_column("jobs", sa.Column(name, sa.Text(), nullable=True))
        op.create_index(op.f(f"ix_jobs_{name}"), "jobs", [name])
    op.add_column("jobs", sa.Column("test", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "test")
    for name in reversed(DATASETS):
        op.drop_index(op.f(f"ix_jobs_{name}"), "jobs")
        op.drop_column("jobs", name)
