"""Adapters of `tusd_py.ports.infostore`."""
