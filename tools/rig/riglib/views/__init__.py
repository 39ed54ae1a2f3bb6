# SPDX-License-Identifier: GPL-2.0-only
"""What people and machines see of the results; none of them reads KTAP."""
