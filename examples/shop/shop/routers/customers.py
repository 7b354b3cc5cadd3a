"""`/customers`."""

from fastapi import APIRouter, status

from shop.db.dependencies import Work
from shop.models import Customer
from shop.routers.parts import Paged, found
from shop.schemas.base import Page
from shop.schemas.customer import CustomerCreate, CustomerRead, CustomerUpdate

router = APIRouter(prefix="/customers", tags=["customers"])


@router.get("")
async def list_customers(work: Work, paging: Paged) -> Page[CustomerRead]:
    rows = await work.customers.page(before=paging.before, limit=paging.limit)
    return Page[CustomerRead].of(rows, paging.limit)


@router.get("/{customer_id}", response_model=CustomerRead)
async def read_customer(customer_id: int, work: Work) -> Customer:
    return found(await work.customers.get(customer_id), "customer")


@router.post("", status_code=status.HTTP_201_CREATED, response_model=CustomerRead)
async def create_customer(body: CustomerCreate, work: Work) -> Customer:
    async with work:
        return work.customers.add(Customer(**body.model_dump()))


@router.patch("/{customer_id}", response_model=CustomerRead)
async def update_customer(customer_id: int, body: CustomerUpdate, work: Work) -> Customer:
    async with work:
        customer = found(await work.customers.get(customer_id), "customer")
        work.customers.change(customer, body.changes())
    return customer
