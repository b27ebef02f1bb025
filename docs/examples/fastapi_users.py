# fastapi_users.py
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Receive, Scope, Send

from tusd_py import Action, Decision, HttpRequest, Upload, allow, create_app


@dataclass
class User:
    name: str
    is_admin: bool = False


USERS = {"ann's token": User("ann"), "root's token": User("root", is_admin=True)}


class Database:
    """Yours."""

    async def user_by_token(self, token: str) -> User | None:
        return USERS.get(token)


async def get_database() -> AsyncIterator[Database]:
    yield Database()


async def current_user(
    credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())],
    database: Annotated[Database, Depends(get_database, scope="function")],
) -> User:
    user = await database.user_by_token(credentials.credentials)
    if user is None:
        raise HTTPException(401, "who are you?")
    return user


async def authorize(request: HttpRequest, action: Action, upload: Upload | None) -> Decision:
    user: User = request.scope["state"]["user"]
    return allow(user.name, any_owner=user.is_admin)


uploads = create_app("./data", authorize=authorize)


class Uploads(Response):
    """Lets the uploads answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await uploads({**scope, "root_path": scope.get("root_path", "") + "/files"}, receive, send)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with uploads.lifespan():
        yield


app = FastAPI(lifespan=lifespan)
METHODS = ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"]


@app.api_route("/files/{rest:path}", methods=METHODS, include_in_schema=False)
async def files(request: Request, user: Annotated[User, Depends(current_user)]) -> Response:
    request.state.user = user
    return Uploads()
