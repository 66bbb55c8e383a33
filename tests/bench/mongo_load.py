"""A load of MongoDB: `python -m tests.bench.mongo_load SETTINGS.json`; what it came to is printed as JSON.

PyMongo, because a login that signs is its business. Settings: uri, options (of the client), id (of the document in
app.bench that is asked for), threads, seconds (0: log in and leave).
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pymongo


def main() -> None:
    """See above."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(settings["uri"], **settings["options"])
    rows = client.app.get_collection("bench")
    wanted = {"_id": settings["id"]}
    ready = threading.Barrier(settings["threads"])
    took: list[float] = []

    def ask() -> None:
        own = []
        found = rows.find_one(wanted)
        if found is None:
            raise RuntimeError("the document is not there")
        ready.wait()
        until = time.perf_counter() + settings["seconds"]
        while (begun := time.perf_counter()) < until:
            rows.find_one(wanted)
            own.append(time.perf_counter() - begun)
        took.extend(own)

    threads = [threading.Thread(target=ask) for _ in range(settings["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    latency = statistics.median(took) * 1e6 if took else 0.0
    figures = {"operations": len(took), "seconds": settings["seconds"], "latency_us": latency}
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main()
