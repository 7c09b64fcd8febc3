"""What tests of your own need: an application in virtual time, backends that fail, crashes.

```python
def test_orders_are_handled():
    with Tester(app) as tester:          # your application, with its handlers
        tester.push("orders", b"{}", id="o-1")
        tester.drain()
        tester.assert_received("orders", phase="processed", count=1)
```

As pytest fixtures: ``pytest_plugins = ["pollin_actors.testing.plugin"]`` in your conftest.py.
"""

from pollin_actors.testing.crashing import Crash, crash
from pollin_actors.testing.faulty import FaultyBackend, InjectedFault
from pollin_actors.testing.tester import Tester
from pollin_actors.testing.webhooks import webhook

__all__ = ["Crash", "FaultyBackend", "InjectedFault", "Tester", "crash", "webhook"]
