"""The privileged part: one small synchronous process with a closed set of requests, and the client that talks to it.

| request | what it does | capability | where in server/ |
|---|---|---|---|
| Hello | reports its namespace and capabilities | none | answers.py |
| ListNamespaces | namespaces that processes run in, with cgroups | SYS_PTRACE | processes.py |
| ListNamed | network namespaces with a name in its directory | none | namespaces.py |
| OpenSockets | makes bound sockets in a namespace, uses none | SYS_ADMIN, NET_RAW | sockets.py |
| ReadKernel | reads kernel topics in namespaces, as bytes | SYS_ADMIN, NET_ADMIN | kernel/ |
| ReadPodFiles | a pod's resolv.conf, and which C libraries it has | SYS_PTRACE | files/ |

SYS_ADMIN is for setns only, and at home (its own namespace) not needed. Entering by a pid needs SYS_PTRACE. A request
changes, writes, logs and starts nothing, except the forked child that reads pods' files; reading creates no table.

Clients are those with the inherited socket, or that connect to its file, by the file's mode or by the uids on the
command line. A message that is not exactly one request ends its sender. Everything has a bound: messages (wire.py),
clients (loop.py), what a visit takes (netlink.py), files and the wait for them (files/), processes (processes.py).

Visits are made in namespaces.py only; if the way back fails the process ends at once, so nothing happens in a wrong
namespace. No descriptor of a foreign namespace outlives its visit. The broker ends with its inherited connection, with
SIGTERM, or with any fault of its own; the exporter then starts or awaits another.

It imports the standard library only, to stay small in memory and in what must be trusted; import-linter checks that.
Start reading at protocol/messages.py, then server/answers.py; server/command.py is where the process begins.
"""
