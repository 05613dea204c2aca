"""How glibc and musl resolve a name, given a resolv.conf and the nameservers' answers. Pure; used by plan and rules."""
