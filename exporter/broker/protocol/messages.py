"""The closed set of requests and replies between the exporter and the broker, as frozen values.

Both processes import this file; it imports the standard library only. wire.py encodes these values.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class SocketKind(IntEnum):
    """A socket that the broker may make. All are non-blocking and close-on-exec."""

    TCP4 = 1
    TCP6 = 2
    UDP4 = 3
    UDP6 = 4
    ICMP4 = 5  # a ping socket where net.ipv4.ping_group_range of the namespace allows it, else raw
    ICMP6 = 6


SOCKET_ARGUMENTS = {  # AF_INET or AF_INET6; SOCK_STREAM, SOCK_DGRAM or SOCK_RAW; IPPROTO_*
    SocketKind.TCP4: (2, 1, 6),
    SocketKind.TCP6: (10, 1, 6),
    SocketKind.UDP4: (2, 2, 17),
    SocketKind.UDP6: (10, 2, 17),
    SocketKind.ICMP4: (2, 3, 1),
    SocketKind.ICMP6: (10, 3, 58),
}


NUMBERS = range(32768, 61000)  # the kernel's default net.ipv4.ip_local_port_range


class Topic(IntEnum):
    """A kernel state that may be read. `argument` and `number` of ReadTopic mean what the comment has."""

    __hash__ = int.__hash__  # answers are kept by topic, and an enum's own hash is slow

    LINKS = 1  # RTM_GETLINK dump
    ADDRESSES = 2  # RTM_GETADDR dump, both families
    ROUTES4 = 3  # RTM_GETROUTE dump, main table
    ROUTES6 = 4
    DEFAULT_ROUTES = 5  # both families' dumps, only messages with destination length 0 leave the broker
    NEIGHBOURS = 6  # RTM_GETNEIGH AF_INET/AF_INET6 of one link; number: ifindex
    FDB = 7  # RTM_GETNEIGH AF_BRIDGE of one link; number: ifindex
    NFT_GENERATION = 8
    NFT_TABLES = 9  # GETTABLE dump, all families
    NFT_CHAIN = 10  # GETCHAIN of one chain; argument: "TABLE\0CHAIN", number: family (NFPROTO_*). ENOENT when absent
    NFT_CHAINS = 11  # GETCHAIN dump of all chains (names, hooks), all families
    NFT_RULES = 12  # GETRULE, filtered by the kernel; argument: "TABLE\0CHAIN", or "TABLE"; number: family
    NFT_SET = 13  # GETSETELEM of one set; argument: "TABLE\0SET", number: family
    LEGACY_TABLES = 14  # /proc/thread-self/net/ip(6)_tables_names; number: family
    # Entries of the named chains of table nat; argument: chains joined by \0, number: family. Behind an empty name
    # stand chains that come with all that they lead to.
    LEGACY_CHAINS = 15
    IPSET = 17  # name and members of one ipset; number: index
    SOCKETS = 18  # sock_diag: listening TCP sockets of both families
    ALL_CONF = 19  # net.ipv6.conf.all and net.ipv4.ip_forward
    CONNTRACK = 20  # count and limit
    SNMP6 = 21
    IPVS = 22  # generic netlink: IPVS services. ENOENT where ip_vs is not loaded; asking does not load it
    # entries of built-in chains and all they lead to; argument: "TABLE\0CHAIN\0..." (nat, mangle), number: family
    LEGACY_REACHABLE = 23
    NFT_SET_HEAD = 24  # as NFT_SET, the first packet of the dump only: is the set empty?
    NFT_BASE_CHAINS = 25  # as NFT_CHAINS, only messages of base chains leave the broker
    BGP = 26  # sock_diag: established TCP connections over IPv6 with port 179 at either end
    # Generic netlink: Calico's WireGuard device for IPv6, its secret keys zeroed. ENODEV where it does not exist
    WIREGUARD = 27
    RULES6 = 28  # RTM_GETRULE dump, IPv6
    LINK_ROUTES6 = 29  # RTM_GETROUTE dump of all tables, IPv6, through one link; number: ifindex


WIREGUARD_LINK = "wg-v6.cali"  # of model/cni/calico.py, which the broker cannot import


def _bgp_filter() -> bytes:
    """An attribute INET_DIAG_REQ_BYTECODE: source or destination port is 179 (net/ipv4/inet_diag.c, inet_diag_bc_run).

    Each comparison is two of struct inet_diag_bc_op: code and how far to go on if true and if false, then the port.
    Running on to exactly the end accepts a socket, running four octets further rejects it.
    """
    jump, source_ge, source_le, destination_ge, destination_le = range(1, 6)
    steps = (
        (source_ge, 8, 20), (0, 0, 179), (source_le, 8, 12), (0, 0, 179), (jump, 4, 20),
        (destination_ge, 8, 20), (0, 0, 179), (destination_le, 8, 12), (0, 0, 179),
    )  # fmt: skip
    return struct.pack("=HH", 4 + 4 * len(steps), 1) + b"".join(struct.pack("=BBH", *step) for step in steps)


# Topics that are one netlink dump: protocol, type of message and body of the request (linux/netlink.h, rtnetlink.h).
DUMPS = {
    Topic.LINKS: (0, 18, bytes(16) + struct.pack("=HHI", 8, 29, 8)),  # IFLA_EXT_MASK: RTEXT_FILTER_SKIP_STATS
    Topic.ADDRESSES: (0, 22, bytes(8)),
    Topic.ROUTES4: (0, 26, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 0, 0)),  # RT_TABLE_MAIN
    Topic.ROUTES6: (0, 26, struct.pack("=BBBBBBBBI", 10, 0, 0, 0, 254, 0, 0, 0, 0)),
    Topic.RULES6: (0, 34, struct.pack("=B11x", 10)),  # struct fib_rule_hdr of linux/fib_rules.h
    # struct inet_diag_req_v2 of linux/inet_diag.h: AF_INET6, TCP, TCP_ESTABLISHED, a 48-byte socket id
    Topic.BGP: (4, 20, struct.pack("=BBBBI", 10, 6, 0, 0, 1 << 1) + bytes(48) + _bgp_filter()),
}
# Topics that are one file, or the values of several as lines of "name value"; a file that does not exist is left out.
FILES = {Topic.SNMP6: "/proc/thread-self/net/snmp6"}
VALUES = {
    Topic.ALL_CONF: {
        "ipv6.forwarding": "/proc/sys/net/ipv6/conf/all/forwarding",
        "ipv6.accept_ra": "/proc/sys/net/ipv6/conf/all/accept_ra",
        "ipv6.disable_ipv6": "/proc/sys/net/ipv6/conf/all/disable_ipv6",
        "ipv4.forwarding": "/proc/sys/net/ipv4/ip_forward",
    },
    Topic.CONNTRACK: {
        "count": "/proc/sys/net/netfilter/nf_conntrack_count",
        "max": "/proc/sys/net/netfilter/nf_conntrack_max",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceRef:
    """Where to act: a network namespace by device and inode, reached through a pid (with its start time) or a path.

    All zero and empty: the broker's own namespace. The broker verifies device and inode after opening: a mismatch is
    ESTALE, which callers read as `vanished`.
    """

    device: int = 0
    inode: int = 0
    pid: int = 0
    started: int = 0  # field 22 of /proc/PID/stat, clock ticks since boot
    path: str = ""


HOME = NamespaceRef()
NAMED_DIRECTORY = "/run/netns"  # where `ip netns` keeps names


class ReadTopic(NamedTuple):
    """One topic to read. A tuple, as TopicAnswer is: they are made and compared hundreds of times a round."""

    topic: Topic
    argument: bytes = b""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Hello:
    """Who are you: sent first."""


@dataclass(frozen=True, slots=True)
class ListNamespaces:
    """Which network namespaces do processes run in, the broker's own left out."""


@dataclass(frozen=True, slots=True)
class ListNamed:
    """Which network namespaces have names here: files of nsfs with printable names. EACCES but for the broker's own."""

    directory: str


class SocketWanted(NamedTuple):
    """A socket there, bound to this number of NUMBERS: a source port or ICMP id.

    0 is one that the kernel chooses. A raw socket has none.
    """

    place: NamespaceRef
    kind: SocketKind
    number: int = 0


@dataclass(frozen=True, slots=True)
class OpenSockets:
    """Make these sockets; those of one place that follow one another in one visit."""

    wanted: tuple[SocketWanted, ...]


@dataclass(frozen=True, slots=True)
class ReadKernel:
    """Read these topics at each of these places, in one visit each: hundreds of single requests are slow."""

    places: tuple[NamespaceRef, ...]
    topics: tuple[ReadTopic, ...]


@dataclass(frozen=True, slots=True)
class ReadPodFiles:
    """Read /etc/resolv.conf inside the root of each place's pid, and which C libraries it has. EINVAL without a pid."""

    places: tuple[NamespaceRef, ...]


Request = Hello | ListNamespaces | ListNamed | OpenSockets | ReadKernel | ReadPodFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The broker's own namespace, effective capabilities (bit mask, linux/capability.h), pid and LSM label."""

    device: int
    inode: int
    capabilities: int
    pid: int
    lsm: str = ""  # /proc/self/attr/current, shortened


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    started: int
    cgroup: bytes  # the path in /proc/PID/cgroup that names a pod, else the longest; bounded


@dataclass(frozen=True, slots=True)
class FoundNamespace:
    device: int
    inode: int
    processes: tuple[Process, ...]  # at most 8, with distinct cgroups; those with a pod's cgroup first


@dataclass(frozen=True, slots=True)
class Namespaces:
    found: tuple[FoundNamespace, ...]
    # processes whose namespace could not be read (EACCES): without SYS_PTRACE, or an LSM's or a sandbox's doing
    refused: int


@dataclass(frozen=True, slots=True)
class NamedNamespace:
    name: str
    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class Named:
    found: tuple[NamedNamespace, ...]
    errno: int = 0


@dataclass(frozen=True, slots=True)
class Sockets:
    """One errno for each, also where its place could not be entered; 0: a descriptor came along, in order."""

    errnos: tuple[int, ...]


class TopicAnswer(NamedTuple):
    """One topic's raw messages or file content, or an errno. `interrupted`: NLM_F_DUMP_INTR was seen twice."""

    errno: int
    data: bytes = b""
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class KernelState:
    """One place's answers, one per topic in order; `visit_errno` and no answers when it could not be entered."""

    visit_errno: int
    answers: tuple[TopicAnswer, ...]


@dataclass(frozen=True, slots=True)
class KernelStates:
    """One state per asked place, in order."""

    states: tuple[KernelState, ...]


class InstalledLibc(IntEnum):
    GLIBC = 1
    MUSL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFiles:
    """`resolv_errno` 0: resolv_conf is the content (at most 64 KiB). `libc_errno` 0: `libcs` is complete.

    EAGAIN: the process has not entered its container yet. ETIMEDOUT: the pod's file system does not answer, so it is
    not read for a while. EBUSY: too many do not answer, so none is read. `sandbox`: the process keeps the pod's
    namespaces and runs nothing of the pod; its libraries are not searched.
    """

    resolv_errno: int
    resolv_conf: bytes
    libc_errno: int
    libcs: tuple[InstalledLibc, ...]
    sandbox: bool = False


@dataclass(frozen=True, slots=True)
class FilesOfPods:
    """One PodFiles per asked place, in order."""

    found: tuple[PodFiles, ...]


Reply = Welcome | Namespaces | Named | Sockets | KernelStates | FilesOfPods
