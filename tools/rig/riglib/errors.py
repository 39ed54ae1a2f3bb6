# SPDX-License-Identifier: GPL-2.0-only
"""What stops the rig."""


class Wrong(Exception):
    """One line on what is wrong and what to do, for the user."""
