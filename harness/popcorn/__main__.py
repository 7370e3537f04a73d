# SPDX-License-Identifier: Apache-2.0
"""``python -m popcorn`` is the same as ``popcorn``."""

import sys

from popcorn.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
