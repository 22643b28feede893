# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of Cinder as sparse files that one host hands to its servers as loop devices."""
