"""Public conformance suites, one per port: what an adapter, ours or a plugin's, has to keep of the port's promises.

An adapter's test file subclasses a suite and overrides its fixture. Needs pytest and pytest-asyncio (`asyncio_mode = "auto"`).
"""

from tusd_py.testing.datastore_suite import DataStoreSuite
from tusd_py.testing.infostore_suite import InfoStoreSuite
from tusd_py.testing.limiter_suite import LimiterSuite
from tusd_py.testing.locker_suite import LockerSuite
from tusd_py.testing.outbox_suite import OutboxSuite

__all__ = ["DataStoreSuite", "InfoStoreSuite", "LimiterSuite", "LockerSuite", "OutboxSuite"]
