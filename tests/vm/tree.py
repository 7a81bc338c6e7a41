#!/usr/bin/env python3
"""tree.py files ROOT [COUNT] | many DIR | plain ROOT: makes what the guest reads; the same bytes each time.

files: 3,000 (or COUNT) regular files of 0 to 200 KB in nested directories, odd names and sizes, symbolic links, and
a file of 64 MiB. many: a directory of 100,000 names, one in a thousand not empty. plain:
150 files whose names any store can hold, and one of 8 MiB.
"""
import os
import random
import sys

SIZES = [0, 1, 3, 1023, 1024, 4095, 4096, 4097, 8192, 65535, 65536, 65537, 131072, 200_000]
NAMES = [
    b"with space",
    b"with\nnewline",
    b"with\\backslash",
    b"quote\"and'quote",
    b"*?[a]",
    b"-dash",
    b".hidden",
    b"n" * 255,
    "\u017elu\u0165ou\u010dk\u00fd k\u016f\u0148".encode(),
    "\u9a8c\u8bc1 \U0001f512".encode(),
    b"not-utf8-\xff\xfe\x80",
]


def write(path, data, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)


def files(root, count=3000):
    rng = random.Random(20260101)
    for name in NAMES:
        write(os.path.join(root, b"names", name), rng.randbytes(5000))
        write(os.path.join(root, b"names", b"dir " + name[:200], name), rng.randbytes(100))
    made = 2 * len(NAMES)
    while made < int(count):
        size = SIZES[made] if made < len(SIZES) else min(int(rng.expovariate(1 / 20_000)), 200_000)
        path = f"files/{made % 7}/{made % 11}/{made % 3}/file-{made:04}".encode()
        write(os.path.join(root, path), rng.randbytes(size), rng.choice([0o644, 0o600, 0o755, 0o444]))
        made += 1
    for i, size in enumerate(SIZES):
        write(os.path.join(root, f"sizes/{i:02}-{size}".encode()), rng.randbytes(size))
    deep = b"/".join([b"deep"] + [b"level"] * 40)
    write(os.path.join(root, deep, b"bottom"), b"the bottom\n")
    os.makedirs(os.path.join(root, b"links"))
    for target, name in [
        (b"../names/with space", b"to-file"),
        (b"../sizes", b"to-directory"),
        (b"nothing/here", b"dangling"),
        (b"/etc/hostname", b"absolute"),
        (b"t" * 1000, b"long"),
    ]:
        os.symlink(target, os.path.join(root, b"links", name))
    write(os.path.join(root, b"big/64m"), rng.randbytes(64 << 20))


def many(folder):
    os.makedirs(folder)
    for i in range(100_000):
        with open(os.path.join(folder, b"entry-%06d" % i), "wb") as f:
            if i % 1000 == 0:
                f.write(b"%d\n" % i)


def plain(root):
    rng = random.Random(20260102)
    for i, size in enumerate(SIZES):
        write(os.path.join(root, b"sizes/%02d-%d" % (i, size)), rng.randbytes(size))
    for name in [b"with space", b"plus+and&", b"percent%41", b"n" * 200, "\u9a8c\u8bc1".encode()]:
        write(os.path.join(root, b"names", name), rng.randbytes(5000))
    for i in range(130):
        size = min(int(rng.expovariate(1 / 10_000)), 60_000)
        write(os.path.join(root, b"files/%d/%d/file-%03d" % (i % 5, i % 3, i)), rng.randbytes(size))
    write(os.path.join(root, b"/".join([b"deep"] + [b"level"] * 10), b"bottom"), b"the bottom\n")
    write(os.path.join(root, b"big/8m"), rng.randbytes(8 << 20))


{"files": files, "many": many, "plain": plain}[sys.argv[1]](os.fsencode(sys.argv[2]), *sys.argv[3:])
