# SPDX-License-Identifier: BSD-3-Clause
# As much of QMP, QEMU's protocol for management, as the tests need.

import json
import socket

class Qmp:
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.replies = self.sock.makefile("r")
        json.loads(self.replies.readline())     # the greeting
        self.run("qmp_capabilities")

    def run(self, command, **arguments):
        """Run a command; its result, or an exception."""
        request = {"execute": command, "arguments": arguments}
        self.sock.sendall(json.dumps(request).encode())
        while True:
            reply = json.loads(self.replies.readline())
            if "error" in reply:
                raise RuntimeError("%s: %s" % (command,
                                               reply["error"]["desc"]))
            if "return" in reply:
                return reply["return"]
