"""`/categories`."""

from fastapi import APIRouter, status

from shop.db.dependencies import Work
from shop.models import Category
from shop.routers.parts import found
from shop.schemas.category import CategoryCreate, CategoryRead, CategoryTree, CategoryUpdate

router = APIRouter(prefix="/categories", tags=["categories"])


@router.get("")
async def read_tree(work: Work) -> list[CategoryTree]:
    return CategoryTree.of(await work.categories.all())


@router.post("", status_code=status.HTTP_201_CREATED, response_model=CategoryRead)
async def create_category(body: CategoryCreate, work: Work) -> Category:
    async with work:
        return work.categories.add(Category(**body.model_dump()))


@router.patch("/{category_id}", response_model=CategoryRead)
async def update_category(category_id: int, body: CategoryUpdate, work: Work) -> Category:
    async with work:
        category = found(await work.categories.get(category_id), "category")
        work.categories.change(category, body.changes())
    return category
