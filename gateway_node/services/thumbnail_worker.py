"""A process that looks at one image: standard input to standard output, and that is its life.

The answer is a line with the width and the height as a viewer sees them, then the thumbnail (WebP), or nothing where
there is none. Exit status 3: this is no image. Decoders of images are C, and what they read was made by anybody: here
they have no secrets, little memory and little time, and a fault ends nobody else.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import sys

from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
NO_IMAGE = 3
SIDE = 400  # pixels, the longer one of a thumbnail
MAX_PIXELS = 64_000_000  # of an image that is decoded: 256 MB
MEMORY = 1 << 30  # bytes of address space
CPU_TIME = 10  # s


def main() -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_TIME, CPU_TIME))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)
    Image.MAX_IMAGE_PIXELS = None  # judged below: the size of what is not decoded is worth knowing too
    try:
        image: Image.Image = Image.open(io.BytesIO(sys.stdin.buffer.read()), formats=FORMATS)
        width, height = image.size
        # The base class's: that of PNG decodes the image to look behind it.
        if Image.Image.getexif(image).get(0x0112) in {5, 6, 7, 8}:  # orientation: on its side
            width, height = height, width
    except Exception:
        return NO_IMAGE
    answer = b"%d %d\n" % (width, height)
    if width * height <= MAX_PIXELS:
        with contextlib.suppress(Exception):  # cut off, or worse than its header says: an image without a thumbnail
            answer += thumbnail(image)
    sys.stdout.buffer.write(answer)
    return 0


def thumbnail(image: Image.Image) -> bytes:
    """At most `SIDE` pixels wide and high, turned as its EXIF says, without any metadata."""
    image.draft("RGB", (2 * SIDE, 2 * SIDE))  # JPEG alone: decodes at a fraction of the size
    image = ImageOps.exif_transpose(image)
    image.thumbnail((SIDE, SIDE))
    clean = image.convert("RGBA" if image.has_transparency_data else "RGB")
    out = io.BytesIO()
    clean.save(out, "WEBP", quality=75, exif=b"", icc_profile=b"", xmp=b"")
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
