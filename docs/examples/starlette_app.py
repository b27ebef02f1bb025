# starlette_app.py
from starlette.applications import Starlette
from starlette.routing import Mount

from tusd_py import create_app

uploads = create_app("./data", max_size=10 * 1024**3)
app = Starlette(routes=[Mount("/files", app=uploads)], lifespan=uploads.lifespan)
