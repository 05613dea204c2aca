"""The privileged part: one small synchronous process with a closed set of requests, and the client that talks to it.

What it does, with which capability, and where:

    Hello            says who it is                                   none                     answers.py
    ListNamespaces   namespaces that processes live in, with cgroups  SYS_PTRACE               processes.py
    ListNamed        network namespaces with a name in a directory    none                     namespaces.py
    OpenSockets      makes sockets in a namespace, uses none          SYS_ADMIN, NET_RAW       sockets.py
    ReadKernel       reads kernel topics in namespaces, as bytes      SYS_ADMIN, NET_ADMIN     kernel.py, and what it
    imports ReadPodFiles     a pod's resolv.conf, which C libraries it has    SYS_PTRACE               podreader.py,
    filechild.py, podfiles.py

Pods' files are read in a forked child (filechild.py), since a pod's file system may never answer; podreader.py bounds
the wait.

SYS_ADMIN is for setns alone, and at home (its own namespace) not needed. Entering by a pid needs SYS_PTRACE. Nothing is
changed, written or logged on a request, and nothing started but that child; no table of the kernel comes into being by
looking.

Who may ask: whoever holds the inherited socket, or connects to its file, by the file's mode or by the uids named on its
command line as the kernel knows them (server.py, connection.py, listening.py). A message that is not exactly one
request ends its sender. Everything has a bound: messages (wire.py), clients (server.py), what a visit takes (visit.py),
files (podfiles.py), the wait for them (podreader.py), processes (processes.py).

How it comes home: visits are made in namespaces.py alone; if the way back fails the process ends on the spot, so
nothing ever happens in a wrong namespace. No descriptor of a foreign namespace outlives its visit. How it ends: with
its inherited connection, with SIGTERM, or with any fault of its own; the exporter then starts or awaits another.

It imports the standard library alone, to stay small in memory and in what must be trusted: import-linter checks that.
To read it, begin with messages.py, then answers.py; cli/command.py is where the process begins. client.py is the
exporter's side and runs without privilege.
"""
