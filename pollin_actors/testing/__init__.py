"""What tests of your own need: an application in virtual time, backends that fail, crashes.

```python
def test_orders_are_handled():
    with Tester(app) as tester:          # your application, with its handlers
        tester.push("orders", b"{}", id="o-1")
        tester.drain()
        tester.assert_received("orders", phase="processed", count=1)
```

In pytest there are fixtures as well: ``pollin_tester`` and ``pollin_seed``.
"""

from typing import TYPE_CHECKING

from pollin_actors.lazily import lazily

# Imported when first used: pytest imports this package with our plugin.
if TYPE_CHECKING:
    from pollin_actors.testing.crashing import Crash, crash
    from pollin_actors.testing.faulty import FaultyBackend, InjectedFault
    from pollin_actors.testing.tester import Tester
    from pollin_actors.testing.webhooks import webhook

__all__ = ["Crash", "FaultyBackend", "InjectedFault", "Tester", "crash", "webhook"]

__getattr__, __dir__ = lazily(globals(), ("crashing", "faulty", "tester", "webhooks"))
