"""The server as a process: sockets, signals, exit statuses, workers, TLS."""
