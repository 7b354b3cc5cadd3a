"""Stock, one row per product.

Revision ID: 0002
Revises: 0001
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    inventory = op.create_table(
        "inventory",
        sa.Column("product_id", sa.BigInteger(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("product_id", name="pk_inventory"),
        sa.CheckConstraint("quantity >= 0", name="ck_inventory_quantity"),
        sa.ForeignKeyConstraint(
            ["product_id"], ["products.id"], name="fk_inventory_product_id_products", ondelete="CASCADE"
        ),
    )
    products = sa.table("products", sa.column("id"))
    op.execute(sa.insert(inventory).from_select(["product_id", "quantity"], sa.select(products.c.id, sa.literal(0))))


def downgrade() -> None:
    op.drop_table("inventory")
