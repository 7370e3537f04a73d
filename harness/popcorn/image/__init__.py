# SPDX-License-Identifier: Apache-2.0
"""Guest images: initramfs archives built without root from Debian packages and our own programs."""

from popcorn.image.build import ImageArtifact, build_image
from popcorn.image.initrd import Startable, overlay, write_initrd
from popcorn.image.keys import Keys, keys

__all__ = ["ImageArtifact", "Keys", "Startable", "build_image", "keys", "overlay", "write_initrd"]
