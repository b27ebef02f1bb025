"""What tests share: a server as a process, a client that speaks raw HTTP/1.1, and small tools. Nothing imports tusd_py."""
