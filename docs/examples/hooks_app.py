# hooks_app.py
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from tusd_py import Action, Decision, HookAnswer, HookEvent, HttpRequest, HttpResponse, Upload, allow, create_app, deny

USERS = {"ann's token": "ann", "bob's token": "bob"}
documents: dict[str, dict[str, str | None]] = {}


async def authorize(request: HttpRequest, action: Action, upload: Upload | None) -> Decision:
    owner = USERS.get((request.header("Authorization") or "").removeprefix("Bearer "))
    if owner is None:
        return deny("who are you?", status=401, headers={"WWW-Authenticate": "Bearer"})
    return allow(owner, max_size=10 * 1024**2)


class Hooks:
    async def pre_create(self, event: HookEvent) -> HookAnswer:
        if (event.upload.metadata.text("filename") or "").endswith(".pdf"):
            return HookAnswer()
        return HookAnswer(reject_upload=True, response=HttpResponse(status=422, body="only PDF files\n"))

    async def post_finish(self, event: HookEvent) -> None:
        upload = event.upload
        documents[upload.id] = {"name": upload.metadata.text("filename"), "owner": upload.owner}


async def list_documents(request: Request) -> JSONResponse:
    return JSONResponse(documents)


uploads = create_app("./data", hooks=Hooks(), authorize=authorize)
app = Starlette(routes=[Mount("/files", app=uploads), Route("/documents", list_documents)], lifespan=uploads.lifespan)
