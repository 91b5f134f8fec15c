#!/usr/bin/env python3
"""The far end of the appliance's wire: sends frames and keeps what arrives. A command a line, an answer in JSON a line."""
import json, socket, sys, threading

interface = sys.argv[1]
p = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
p.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
p.bind((interface, 0))
frames = []


def receive():
    while True:
        data, address = p.recvfrom(10000)
        if address[2] != 4:  # not our own
            frames.append(data.hex())


threading.Thread(target=receive, daemon=True).start()
for line in sys.stdin:
    name, *arguments = line.split()
    if name == "send":
        for frame in arguments:
            p.send(bytes.fromhex(frame))
        answer = {}
    else:
        answer = {"frames": frames[:]}
        del frames[: len(answer["frames"])]
    print(json.dumps(answer), flush=True)
