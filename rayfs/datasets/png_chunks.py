"""Checksums of PNG files: Pillow leaves out those of the pixels, so that a flipped bit would be another picture."""

import struct
import zlib

_SIGNATURE_BYTES = 8


def check_chunks(encoded: bytes) -> None:
    """Check length and CRC of every chunk up to the last; what lies behind that is no part of the image.

    Raises:
        ValueError: a chunk is cut off or damaged; names it.
    """
    position, kind = _SIGNATURE_BYTES, b""
    while kind != b"IEND":
        header = encoded[position : position + 8]
        if len(header) < 8:
            raise ValueError(f"the file ends behind chunk {_name(kind)}")
        n_bytes, kind = struct.unpack(">I4s", header)
        data = memoryview(encoded)[position + 4 : position + 8 + n_bytes]
        checksum = encoded[position + 8 + n_bytes : position + 12 + n_bytes]
        if len(checksum) < 4:
            raise ValueError(f"chunk {_name(kind)} is cut off")
        if zlib.crc32(data) != int.from_bytes(checksum, "big"):
            raise ValueError(f"chunk {_name(kind)} does not match its checksum")
        position += 12 + n_bytes


def _name(kind: bytes) -> str:
    return ascii(kind.decode("latin-1"))
