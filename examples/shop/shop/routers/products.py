"""`/products`."""

from fastapi import APIRouter, HTTPException, status

from shop.db.dependencies import Work
from shop.models import Inventory, Product
from shop.routers.parts import Paged, found
from shop.schemas.base import Page
from shop.schemas.product import ProductCreate, ProductDetail, ProductRead, ProductSummary, ProductUpdate

router = APIRouter(prefix="/products", tags=["products"])


@router.get("")
async def list_products(work: Work, paging: Paged, category_id: int | None = None) -> Page[ProductSummary]:
    where = [] if category_id is None else [Product.category_id == category_id]
    rows = await work.products.page(*where, before=paging.before, limit=paging.limit)
    return Page[ProductSummary].of(rows, paging.limit)


@router.get("/{product_id}", response_model=ProductDetail)
async def read_product(product_id: int, work: Work) -> Product:
    return found(await work.products.get_whole(product_id), "product")


@router.post("", status_code=status.HTTP_201_CREATED, response_model=ProductRead)
async def create_product(body: ProductCreate, work: Work) -> Product:
    inventory = Inventory(quantity=body.stock)
    async with work:
        return work.products.add(Product(**body.model_dump(exclude={"stock"}), inventory=inventory))


@router.patch("/{product_id}", response_model=ProductRead)
async def update_product(product_id: int, body: ProductUpdate, work: Work) -> Product:
    async with work:
        product = found(await work.products.get(product_id), "product")
        work.products.change(product, body.changes())
    return product


@router.delete("/{product_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_product(product_id: int, work: Work) -> None:
    async with work:
        product = found(await work.products.get(product_id), "product")
        if await work.products.ordered(product_id):
            raise HTTPException(status.HTTP_409_CONFLICT, "the product has been ordered")
        await work.products.delete(product)
