"""What glibc's and musl's getaddrinfo make of a resolv.conf and of what nameservers answer. Used by plan, diagnosis and `resolve`; pure."""
