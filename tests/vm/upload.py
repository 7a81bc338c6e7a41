#!/usr/bin/env python3
"""upload.py ENDPOINT BUCKET DIR: makes the bucket and puts every file below DIR into it, without credentials."""
import concurrent.futures
import os
import sys
import urllib.parse
import urllib.request

endpoint, bucket, root = sys.argv[1:]
# Without it a form would be looked for in the data.
TYPE = {"Content-Type": "application/octet-stream"}


def put(key, data):
    url = f"{endpoint}/{bucket}" + (f"/{urllib.parse.quote(key)}" if key else "")
    with urllib.request.urlopen(urllib.request.Request(url, data, TYPE, method="PUT"), timeout=60) as answer:
        answer.read()


put("", b"")
keys = [os.path.relpath(os.path.join(folder, name), root) for folder, _, names in os.walk(root) for name in names]
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda key: put(key, open(os.path.join(root, key), "rb").read()), keys))
