"""The floor: one blocking thread, recv_into 1 MiB then pwrite, no protocol to speak of, one connection at a time (bulk only).

Run: python raw_floor.py PORT DIR
"""

import os
import re
import socket
import sys
import uuid

port, directory = int(sys.argv[1]), sys.argv[2]
listener = socket.create_server(("127.0.0.1", port))
while True:
    sock, _ = listener.accept()
    buffered = b""
    while True:
        while b"\r\n\r\n" not in buffered and (more := sock.recv(4096)):
            buffered += more
        if b"\r\n\r\n" not in buffered:
            break
        head, buffered = buffered.split(b"\r\n\r\n", 1)
        method, path, _ = head.split(b"\r\n")[0].decode().split()
        if method == "POST":
            name = uuid.uuid4().hex
            open(f"{directory}/{name}", "wb").close()
            sock.sendall(f"HTTP/1.1 201 Created\r\nLocation: /files/{name}\r\nContent-Length: 0\r\n\r\n".encode())
            continue
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        file = os.open(f"{directory}/{path.rsplit('/', 1)[1]}", os.O_WRONLY)
        done = os.pwrite(file, buffered, 0) if buffered else 0
        buffered, view = b"", memoryview(bytearray(1 << 20))
        while done < length and (got := sock.recv_into(view, min(len(view), length - done))):
            done += os.pwrite(file, view[:got], done)
        os.close(file)
        sock.sendall(f"HTTP/1.1 204 No Content\r\nUpload-Offset: {done}\r\n\r\n".encode())
    sock.close()
