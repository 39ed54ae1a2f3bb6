# SPDX-License-Identifier: GPL-2.0-only
"""The rig's own data: what has to run, what came of it, and what to say of that."""
