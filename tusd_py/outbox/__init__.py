"""Events that outlive processes. Adapters of `tusd_py.ports.events`."""
