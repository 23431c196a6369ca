"""A name server on loopback that knows what the test tells it, in a thread of the test's own process."""

from __future__ import annotations

import socketserver
import threading
from typing import Any

import dns.message
import dns.rcode
import dns.rrset


class NameServer:
    """``zone``: name (without the root's dot) and type to records as zone files write them. Other names do not exist. ``trouble``: names
    answered SERVFAIL. ``asked``: every question, as ``name TYPE``."""

    def __init__(self) -> None:
        self.zone: dict[tuple[str, str], list[str]] = {}
        self.trouble: set[str] = set()
        self.asked: list[str] = []
        owner = self

        class Answer(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                datagram, port = self.request
                port.sendto(owner._answer(datagram), self.client_address)

        self._server = socketserver.UDPServer(("127.0.0.1", 0), Answer)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """As ``[dns] servers`` has it."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def publish(self, name: str, record: str) -> None:
        """That TXT record and no other."""
        self.zone[name, "TXT"] = [f'"{record}"']

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, datagram: bytes) -> bytes:
        query: Any = dns.message.from_wire(datagram)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), question.rdtype.name
        self.asked.append(f"{name} {kind}")
        response = dns.message.make_response(query)
        if name in self.trouble:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif (name, kind) in self.zone:
            response.answer.append(dns.rrset.from_text_list(question.name, 0, "IN", kind, self.zone[name, kind]))
        elif name not in {known for known, _ in self.zone}:
            response.set_rcode(dns.rcode.NXDOMAIN)
        return bytes(response.to_wire())
