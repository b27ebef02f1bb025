"""Stock clients, proxies and ASGI servers, all real, over loopback."""
