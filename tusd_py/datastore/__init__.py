"""Adapters of `tusd_py.ports.datastore`."""
