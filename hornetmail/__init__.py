"""HornetMail: e-mail continuity and an encrypted, provable archive in one Twisted process.

``docs/flow.rst`` follows a message through the rooms of this package.
"""

__version__ = "0.1.0"
