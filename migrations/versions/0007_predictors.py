"""Predictors."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Written out here: a migration must not change when the code does.
Instant = sa.Double


def upgrade() -> None:
    op.create_table(
        "predictors",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("previous_job_id", sa.Text(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("updated_at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_predictors_project_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_predictors_job_id")),
        sa.ForeignKeyConstraint(
            ["previous_job_id"], ["jobs.id"], name=op.f("fk_predictors_previous_job_id"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_predictors")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_predictors_project_id_name")),
    )
    op.create_index(op.f("ix_predictors_job_id"), "predictors", ["job_id"])
    op.create_index(op.f("ix_predictors_previous_job_id"), "predictors", ["previous_job_id"])


def downgrade() -> None:
    op.drop_table("predictors")
