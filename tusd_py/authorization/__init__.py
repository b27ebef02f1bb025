"""Who may do what. Adapters of `tusd_py.ports.authorization`."""
