/* Prints what getaddrinfo gives for NAME: code, seconds, then each address once per line. Usage: getaddrinfo any|4|6 NAME */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

int main(int argc, char **argv)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL, *entry;
	struct timespec begin, end;
	char text[INET6_ADDRSTRLEN];
	int code;

	if (argc != 3)
		return 2;
	hints.ai_family = strcmp(argv[1], "4") == 0 ? AF_INET : strcmp(argv[1], "6") == 0 ? AF_INET6 : AF_UNSPEC;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	code = getaddrinfo(argv[2], NULL, &hints, &list);
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%d %.3f\n", code, (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
	for (entry = list; entry; entry = entry->ai_next) {
		const void *address = entry->ai_family == AF_INET
			? (const void *)&((struct sockaddr_in *)entry->ai_addr)->sin_addr
			: (const void *)&((struct sockaddr_in6 *)entry->ai_addr)->sin6_addr;
		if (inet_ntop(entry->ai_family, address, text, sizeof text))
			puts(text);
	}
	return 0;
}
