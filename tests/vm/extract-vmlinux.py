#!/usr/bin/env python3
"""extract-vmlinux.py BZIMAGE OUT: cuts the compressed payload out of a bzImage and unpacks it to an ELF vmlinux."""
import lzma
import struct
import subprocess
import sys
import zlib

image = open(sys.argv[1], "rb").read()
setup = (image[0x1F1] or 4) * 512 + 512
offset, length = struct.unpack_from("<II", image, 0x248)  # payload_offset, payload_length of the boot protocol
payload = image[setup + offset : setup + offset + length]
if payload[:4] == b"\x28\xb5\x2f\xfd":  # the kernel appends 4 bytes of size, which zstd would take for a frame
    kernel = subprocess.run(["zstd", "-dc"], input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout
elif payload[:4] == b"\x02\x21\x4c\x18":
    kernel = subprocess.run(["lz4", "-dc"], input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout
elif payload[:6] == b"\xfd7zXZ\x00":
    kernel = lzma.LZMADecompressor().decompress(payload)
elif payload[:2] == b"\x1f\x8b":
    kernel = zlib.decompressobj(31).decompress(payload)
else:
    sys.exit(f"unknown compression: {payload[:6].hex()}")
if kernel[:4] != b"\x7fELF":
    sys.exit("the payload is not an ELF file")
open(sys.argv[2], "wb").write(kernel)
