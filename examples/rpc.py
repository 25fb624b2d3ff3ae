#!/usr/bin/env python3
"""Drives `dstream rpc` with Python's standard library alone.

    examples/rpc.py [DSTREAM] [DIRECTORY]

The class is all that a program needs: calls may be made without waiting for their
answers, and come from several threads.
"""

import itertools
import json
import queue
import subprocess
import sys
import threading
from concurrent.futures import Future


class Refused(Exception):
    """An error of the log; data["error"] is its name (docs/protocol.md)."""

    def __init__(self, error):
        super().__init__(error["message"])
        self.code = error["code"]
        self.data = error.get("data", {})


class DurableStream:
    def __init__(self, dstream="dstream", directory=".opencode"):
        self._child = subprocess.Popen(
            [dstream, "--dir", directory, "rpc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._ids = itertools.count(1)
        self._lock = threading.Lock()  # one writer at a time; guards _waiting and _subs
        self._waiting = {}
        self._subs = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, method, **params):
        """Sends a request, and returns a Future of its result."""
        future = Future()
        with self._lock:
            number = next(self._ids)
            self._waiting[number] = future
            request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            self._child.stdin.write(json.dumps(request).encode() + b"\n")
            self._child.stdin.flush()
        return future

    def call(self, method, **params):
        return self.send(method, **params).result()

    def append(self, **event):
        """Sends an event. The Future's result says where it was recorded."""
        return self.send("append", event=event)

    def subscribe(self, name, **filter):
        """Returns a queue of (sequence, event). To go on later: after=sequence."""
        events = queue.Queue()
        with self._lock:
            self._subs[name] = events
        self.call("subscribe", subscription=name, **filter)
        return events

    def close(self):
        """Ends the input; what was sent is carried out. Raises if something was not."""
        self._child.stdin.close()
        self._reader.join()
        if self._child.wait() != 0:
            raise RuntimeError(f"dstream rpc ended with status {self._child.returncode}")

    def _read(self):
        for line in self._child.stdout:
            message = json.loads(line)
            if message.get("method") == "event":
                params = message["params"]
                self._subs[params["subscription"]].put((params["seq"], params["event"]))
            elif "id" in message:
                with self._lock:
                    future = self._waiting.pop(message["id"], None)
                if future is None:
                    print("dstream rpc:", message, file=sys.stderr)
                elif "error" in message:
                    future.set_exception(Refused(message["error"]))
                else:
                    future.set_result(message["result"])
        for future in self._waiting.values():
            future.set_exception(EOFError("dstream rpc has ended"))


def main():
    log = DurableStream(*sys.argv[1:3])
    completed = log.subscribe("mine", types=["task.completed"])

    # A hundred appends, none of which waits for the one before. They keep their order.
    sent = [
        log.append(type="task.created", stream_id="ses_py", actor="agent/planner", payload={"n": n})
        for n in range(100)
    ]
    log.append(type="task.completed", stream_id="ses_py", actor="agent/executor", payload={"result": "ok"})
    sequences = [future.result()["seq"] for future in sent]
    assert sequences == sorted(sequences)

    seq, event = completed.get(timeout=30)
    print("task done:", event["payload"]["result"])
    history = log.call("query", stream_id="ses_py", actor="agent/planner", last=1)
    print("planned:", history["events"][0]["payload"]["n"] + 1)

    log.call("checkpoint.request", id="cp_py", stream_id="ses_py", requested_by="agent/planner", decision_point="Go on?")
    waiting = log.send("checkpoint.wait", id="cp_py")
    try:
        log.call("checkpoint.approve", id="cp_py", by="agent/planner")
    except Refused as refused:
        print("refused:", refused.data["error"])
    log.call("checkpoint.reject", id="cp_py", by="alice", reason="not today")
    print("decided:", waiting.result()["status"])
    log.close()


if __name__ == "__main__":
    main()
