# django_urls.py
from django.http import HttpRequest, HttpResponse
from django.urls import path


async def home(request: HttpRequest) -> HttpResponse:
    user = await request.auser()
    return HttpResponse(f"hello {user}\n")


urlpatterns = [path("", home)]
