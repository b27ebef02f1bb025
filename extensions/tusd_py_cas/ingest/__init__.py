"""Taking contents into the repository: cut, deduplicate, compress, store, and note what they are made of.

`engine.Engine` does it, blocking and with threads. `process` is the child process that a server runs it in, and
`client.IngestProcess` the server's end of that. Import these modules, not this package: a server needs only `client` and
`jobs`, and `engine` loads what cuts, hashes and compresses.
"""
