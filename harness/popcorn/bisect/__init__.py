# SPDX-License-Identifier: Apache-2.0
"""Finding the change that brought a failure: by git bisect, with as many runs of the test as its flakiness needs.

evidence    what one run of the test told, and what a failure goes by
sequential  how many runs are enough
history     which change to try next: git's own bisection
search      all evidence of a search, and what follows from it
next        what the search does next, a pure function of the evidence
journal     the evidence on disk, so that a search goes on after an interruption
spaces      what is searched: patches, commits, options of a configuration, parameters
trial       one run: build, boot, test
"""
