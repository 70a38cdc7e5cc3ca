"""inquiries"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Written out here: a migration must not change when the code does.
Instant = sa.Double
Json = sa.JSON


def upgrade() -> None:
    op.create_table(
        "inquiries",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("request", Json, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error", Json, nullable=True),
        sa.Column("files", Json, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
        sa.Column("finished_at", Instant(), nullable=True),
        sa.CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed')", name=op.f("ck_inquiries_status")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_inquiries_project_id")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_inquiries_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inquiries")),
    )
    op.create_index(op.f("ix_inquiries_job_id"), "inquiries", ["job_id"])
    op.create_index(op.f("ix_inquiries_finished_at"), "inquiries", ["finished_at"])


def downgrade() -> None:
    op.drop_table("inquiries")
