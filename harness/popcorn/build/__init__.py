# SPDX-License-Identifier: Apache-2.0
"""From sources to content-addressed artifacts: kernels, kexec, and the store that keeps them."""
