"""The use cases: what a server of resumable uploads does, whatever wire, store and lock it has."""

from tusd_py.uploads.service import Durability, Uploads

__all__ = ["Durability", "Uploads"]
