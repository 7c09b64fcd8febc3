"""A plain threaded service: request threads push, one worker thread pops, and stopping is clean.

Run it: ``python examples/threaded_service.py``
"""

from __future__ import annotations

import threading

from pollin_actors import Application, Callback, Endpoint, Request

JSON = [("content-type", "application/json")]


class Service:
    """Takes orders in any thread and processes them in a worker thread of its own."""

    def __init__(self) -> None:
        self.app = Application(endpoints=[Endpoint.new(["received"], ttl=0, id="orders")])
        self.processed: list[bytes] = []
        self._arrived = threading.Semaphore(0)
        self._worker = threading.Thread(target=self._work, name="worker")

    def start(self) -> None:
        self.app.start()
        self._worker.start()

    def receive(self, body: bytes) -> str:
        """Called by whatever thread handles the request; the order is queued on return."""
        callback = Callback.new(Request(JSON, body))
        self.app.callbacks.push("orders", callback).get()
        self._arrived.release()
        return callback.id

    def stop(self) -> None:
        """Finish what is queued, then stop. Nobody may call ``receive`` any more."""
        self._arrived.release()  # one signal without an order: the worker finds the queue empty
        self._worker.join()
        self.app.stop()

    def _work(self) -> None:
        while True:
            self._arrived.acquire()
            callback = self.app.callbacks.pop("orders").get()
            if callback is None:
                return
            self.processed.append(callback.request.body)


def main(producers: int = 4, each: int = 25) -> list[bytes]:
    """Let several threads send orders; return what was processed, in that order."""
    service = Service()
    service.start()

    def produce(producer: int) -> None:
        for number in range(each):
            service.receive(b'{"producer": %d, "number": %d}' % (producer, number))

    threads = [threading.Thread(target=produce, args=(index,)) for index in range(producers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    service.stop()
    print(f"{len(service.processed)} orders from {producers} threads processed")
    return service.processed


if __name__ == "__main__":
    main()
