"""Adapters of `tusd_py.ports.locker`."""
