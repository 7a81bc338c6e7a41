#!/usr/bin/env python3
"""libraries.py ARTIFACTS NAME[@VERSION]...: what rustc has to be told to use the libraries NAME that cargo built.

ARTIFACTS is what `cargo build --message-format json` printed, or `cargo test --no-run`; VERSION is how the version
begins, where there are several. Prints an argument a line."""
import json
import os
import sys

versions = dict(word.partition("@")[::2] for word in sys.argv[2:])
found = {name: set() for name in versions}
for line in open(sys.argv[1], encoding="utf-8"):
    message = json.loads(line)
    if message["reason"] != "compiler-artifact" or message["target"]["name"] not in found:
        continue
    name, version = message["target"]["name"], message["package_id"].rpartition("#")[2].rpartition("@")[2]
    if version.startswith(versions[name]):
        found[name] |= {file for file in message["filenames"] if file.endswith(".rlib")}
for name, files in found.items():
    if len(files) != 1:
        sys.exit(f"{name}: {sorted(files)}")
    file = files.pop()
    # The library itself stands beside the directory of all others.
    directory = os.path.dirname(file)
    deps = directory if os.path.basename(directory) == "deps" else os.path.join(directory, "deps")
    print("--extern", f"{name}={file}", "-L", f"dependency={deps}", sep="\n")
