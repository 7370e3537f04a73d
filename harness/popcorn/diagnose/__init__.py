# SPDX-License-Identifier: Apache-2.0
"""What became of each kernel of a machine, and why: judged from what was recorded of it, up or dead."""
