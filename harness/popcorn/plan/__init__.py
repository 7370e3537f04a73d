# SPDX-License-Identifier: Apache-2.0
"""A machine and a policy give partitions and their command lines; pure, no I/O."""

from popcorn.plan.draft import read_plan
from popcorn.plan.make import make_plan
from popcorn.plan.model import Partition, Plan, Window
from popcorn.plan.validate import validate

__all__ = ["Partition", "Plan", "Window", "make_plan", "read_plan", "validate"]
