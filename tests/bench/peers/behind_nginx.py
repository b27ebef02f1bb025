"""A server behind nginx, with the configuration that docs/how-to/nginx.conf recommends, over plain HTTP/1.1.

Run: python behind_nginx.py PORT DIR COMMAND... with {port} and {dir} in the command for the server's own.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

port, directory, command = sys.argv[1], sys.argv[2], sys.argv[3:]
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    upstream = probe.getsockname()[1]
state = tempfile.mkdtemp(prefix="nginx-")
with open(f"{state}/nginx.conf", "w") as file:
    file.write(
        f"""
daemon off; pid {state}/pid; error_log {state}/error.log; worker_processes 2;
events {{ worker_connections 4096; }}
http {{
    access_log off; client_body_temp_path {state}/body; proxy_temp_path {state}/proxy; fastcgi_temp_path {state}/f;
    uwsgi_temp_path {state}/u; scgi_temp_path {state}/s; client_max_body_size 0;
    upstream tus {{ server 127.0.0.1:{upstream}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://tus; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
            proxy_request_buffering off; proxy_buffering off; client_body_buffer_size 512k;
        }}
    }}
}}
"""
    )
server = subprocess.Popen([part.format(port=upstream, dir=directory) for part in command])
nginx = subprocess.Popen(
    [shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin") or "nginx", "-c", f"{state}/nginx.conf"]
)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
try:
    nginx.wait()
finally:
    nginx.terminate()
    server.terminate()
    shutil.rmtree(state, ignore_errors=True)
