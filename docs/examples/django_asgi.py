# django_asgi.py
import os
from http.cookies import SimpleCookie
from importlib import import_module

from django.conf import settings
from django.contrib.auth import aget_user, get_user_model
from django.core.asgi import get_asgi_application
from django.http import HttpRequest as DjangoRequest
from starlette.types import Receive, Scope, Send

from tusd_py import Action, Decision, HookEvent, HttpRequest, Upload, allow, create_app, deny

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_settings")
django_application = get_asgi_application()
sessions = import_module(settings.SESSION_ENGINE)


async def authorize(request: HttpRequest, action: Action, upload: Upload | None) -> Decision:
    """Whoever is logged in to Django."""
    cookie = SimpleCookie(request.header("Cookie")).get(settings.SESSION_COOKIE_NAME)
    asked = DjangoRequest()
    asked.session = sessions.SessionStore(cookie.value if cookie else None)
    user = await aget_user(asked)
    return allow(str(user.pk)) if user.is_authenticated else deny("log in first", status=401)


class Hooks:
    def post_finish(self, event: HookEvent) -> None:
        """Not async: it runs in a thread, where Django's ORM and mail may block."""
        user = get_user_model().objects.get(pk=event.upload.owner)
        user.email_user("Your file is here", f"{event.upload.metadata.text('filename')}, {event.upload.offset} bytes")


uploads = create_app("./data", hooks=Hooks(), authorize=authorize)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":  # which Django knows nothing of
        await uploads(scope, receive, send)
    elif scope["type"] == "http" and scope["path"].startswith("/files/"):
        await uploads({**scope, "root_path": scope.get("root_path", "") + "/files"}, receive, send)
    else:
        await django_application(scope, receive, send)
