"""SQLite's index keeps every promise of the port."""

from __future__ import annotations

from tests.cas.index.suite.chunks import ChunkSuite
from tests.cas.index.suite.contents import ContentSuite
from tests.cas.index.suite.keeping import KeepingSuite
from tests.cas.index.suite.vanished import VanishedSuite
from tests.cas.index.suite.versions import VersionSuite


class TestChunks(ChunkSuite):
    pass


class TestContents(ContentSuite):
    pass


class TestVersions(VersionSuite):
    pass


class TestKeeping(KeepingSuite):
    pass


class TestVanished(VanishedSuite):
    pass
