# SPDX-License-Identifier: Apache-2.0
"""What a CI job asks: does it build, do the tests pass, is it slower; answered once, in a folder to be kept."""
