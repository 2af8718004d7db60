# SPDX-License-Identifier: Apache-2.0
"""What black-box scenarios are made of: messages, endpoints, processes, cases."""
