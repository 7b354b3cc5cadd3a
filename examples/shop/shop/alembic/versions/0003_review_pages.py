"""Index the pages of a product's reviews, without locking out writers.

Revision ID: 0003
Revises: 0002
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    replace("ix_reviews_product_id", "ix_reviews_product_id_id", ["product_id", "id"])


def downgrade() -> None:
    replace("ix_reviews_product_id_id", "ix_reviews_product_id", ["product_id"])


def replace(old: str, new: str, columns: list[str]) -> None:
    with op.get_context().autocommit_block():
        op.create_index(new, "reviews", columns, postgresql_concurrently=True, if_not_exists=True)
        op.drop_index(old, "reviews", postgresql_concurrently=True, if_exists=True)
