# SPDX-License-Identifier: Apache-2.0
"""Whether a run is worse than another by more than is allowed."""
