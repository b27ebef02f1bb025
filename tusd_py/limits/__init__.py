"""How much may be stored and begun. Adapters of `tusd_py.ports.limits`."""
