"""The ways of asking hooks: scripts, web services, gRPC services, Python callables. Adapters of `tusd_py.ports.hooks`."""
