# SPDX-License-Identifier: Apache-2.0
"""What the results of a run say, as one page that needs nothing else."""
