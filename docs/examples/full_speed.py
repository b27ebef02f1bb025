# full_speed.py
import uvicorn

from tusd_py.transport import http_protocol

if __name__ == "__main__":
    uvicorn.run("starlette_app:app", host="127.0.0.1", port=8000, http=http_protocol(network_timeout=60))
