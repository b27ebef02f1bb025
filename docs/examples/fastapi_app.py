# fastapi_app.py
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI

from tusd_py import create_app

uploads = create_app("./data", expiry=timedelta(days=2))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with uploads.lifespan():
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/files", uploads)
