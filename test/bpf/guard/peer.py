#!/usr/bin/env python3
"""One process with one socket at a time, played from outside: a command a line on stdin, an answer in JSON a line.

It stands for an agent that can be killed at any moment and for a client whose socket can be looked into.
"""
import array, fcntl, json, os, select, socket, struct, sys, termios, threading, time

TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_REPAIR_WINDOW = 19, 20, 21, 29
SIOCOUTQ = termios.TIOCOUTQ
SO_TIMESTAMPNS = 35

family = socket.AF_INET
listener = None
s = None
frames = []
drain = lambda: None


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def sniff(interface):
    """Every frame with its kernel time, converted to CLOCK_MONOTONIC. From now on `drain` reads those that have come."""
    global drain
    p = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    p.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    p.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    p.bind((interface, 0))
    p.setblocking(False)
    offset = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    reading = threading.Lock()

    def drain():
        with reading:
            while True:
                try:
                    data, ancillary, _, address = p.recvmsg(200, 64)
                except BlockingIOError:
                    return
                stamp = struct.unpack("qq", ancillary[0][2])
                frames.append([stamp[0] * 10**9 + stamp[1] - offset, address[2] == 4, data.hex()])

    def run():
        while True:
            select.select([p], [], [])
            drain()

    threading.Thread(target=run, daemon=True).start()


def blast(total, piece):
    def run():
        left = total
        try:
            while left > 0:
                left -= s.send(b"x" * min(piece, left))
        except OSError:
            pass

    threading.Thread(target=run, daemon=True).start()


def receive(count, seconds):
    """At most `count` bytes; ends early at the end of the stream, a reset or when `seconds` are over."""
    got, ended = 0, None
    deadline = time.monotonic() + seconds
    while got < count:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        s.settimeout(left)
        try:
            data = s.recv(min(count - got, 1 << 20))
        except socket.timeout:
            break
        except OSError as error:
            ended = "reset" if isinstance(error, ConnectionResetError) else str(error)
            break
        if not data:
            ended = "end"
            break
        got += len(data)
    s.settimeout(None)
    return {"got": got, "ended": ended}


def command(name, a):
    global listener, s
    if name == "join":  # before any socket: its cgroup is that of its creator
        with open(a[0] + "/cgroup.procs", "w") as procs:
            procs.write(str(os.getpid()))
    elif name == "listen":
        listener = socket.socket(family_of(a[0]), socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((a[0], int(a[1])))
        listener.listen(64)
    elif name == "accept":
        listener.settimeout(float(a[0]))
        s, _ = listener.accept()
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    elif name == "connect":
        s = socket.socket(family_of(a[0]), socket.SOCK_STREAM)
        s.bind(("", int(a[2])))
        s.settimeout(float(a[3]))
        try:
            s.connect((a[0], int(a[1])))
        except socket.timeout:
            return {"connected": False}
        except OSError as error:
            return {"connected": False, "error": type(error).__name__}
        s.settimeout(None)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return {"connected": True}
    elif name == "send":
        s.sendall(b"y" * int(a[0]))
    elif name == "blast":
        blast(int(a[0]), 1 << 16)
    elif name == "receive":
        return receive(int(a[0]), float(a[1]))
    elif name == "unacknowledged":
        queued = array.array("i", [0])
        fcntl.ioctl(s, SIOCOUTQ, queued)
        return {"bytes": queued[0]}
    elif name == "shutdown":
        s.shutdown(socket.SHUT_WR)
    elif name == "close":
        s.close()
    elif name == "abort":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    elif name == "repair":  # rebuilds: local, its port, remote, its port, first number to send, next to receive
        s = socket.socket(family_of(a[0]), socket.SOCK_STREAM)
        s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)  # implies a reuse that a listener on the port allows
        s.bind((a[0], int(a[1])))
        for queue, sequence in ((2, a[4]), (1, a[5])):
            s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
            s.setsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, struct.pack("I", int(sequence)))
        s.connect((a[2], int(a[3])))
        received = int(a[5])
        window = struct.pack("5I", received, 30000, 30000, 30000, received)
        s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_WINDOW, window)
    elif name == "leave_repair":
        s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, -1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # leaving has cleared it
    elif name == "enter_repair":
        s.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    elif name == "sniff":
        sniff(a[0])
    elif name == "frames":
        drain()  # the thread may not have come to the last ones
        out = list(frames)
        del frames[: len(out)]
        return {"frames": out}
    elif name == "inject":  # a whole Ethernet frame
        p = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        p.bind((a[0], 0))
        p.send(bytes.fromhex(a[1]))
        p.close()
    elif name == "raw":  # an IPv4 packet, as an agent's raw socket sends it: packet, destination, mark
        p = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        p.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, int(a[2]))
        p.sendto(bytes.fromhex(a[0]), (a[1], 0))
        p.close()
    elif name == "datagram":  # to a closed port; answers with an error if the other side says so
        d = socket.socket(family_of(a[0]), socket.SOCK_DGRAM)
        d.connect((a[0], int(a[1])))
        d.send(b"x")
        d.settimeout(0.3)
        try:
            d.recv(1)
        except OSError as error:
            return {"error": type(error).__name__}
        finally:
            d.close()
    else:
        raise ValueError(name)
    return {}


for line in sys.stdin:
    name, *arguments = line.split()
    try:
        answer = command(name, arguments)
    except Exception as error:
        answer = {"failed": f"{name}: {error!r}"}
    print(json.dumps(answer), flush=True)
