# The example shop with querytoll, as docker-compose.yml runs it.
FROM python:3.13.14-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src src
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt \
        '.[asyncpg,fastapi,history]' httpx uvicorn

FROM python:3.13.14-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PROMETHEUS_DISABLE_CREATED_SERIES=true
WORKDIR /app
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin shop
COPY --from=build /opt/venv /opt/venv
COPY examples/shop/shop shop
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["uvicorn", "shop.main:create_app", "--factory", "--host", "0.0.0.0", "--port", "8000", "--no-access-log"]
