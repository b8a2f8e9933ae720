/* What a program gets from its C library: libc TYPE/NAME... prints "TYPE/NAME: " and the sorted addresses or the name, a line each.
 * TYPE: A, AAAA, BOTH (one question of the program, two of the library), PTR (NAME is an address). Nothing behind the colon: no such name. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define MOST 1024

static char found[MOST][INET6_ADDRSTRLEN];

static int order(const void *a, const void *b) { return strcmp(a, b); }

static void addresses(const char *name, int family) {
    struct addrinfo hints = { .ai_family = family, .ai_socktype = SOCK_STREAM }, *list;
    int count = 0;
    if (getaddrinfo(name, NULL, &hints, &list) != 0) return;
    for (struct addrinfo *each = list; each && count < MOST; each = each->ai_next)
        if (getnameinfo(each->ai_addr, each->ai_addrlen, found[count], sizeof found[0], NULL, 0, NI_NUMERICHOST) == 0) count++;
    freeaddrinfo(list);
    qsort(found, count, sizeof found[0], order);
    for (int i = 0; i < count; i++) printf(" %s", found[i]);
}

static void name_of(const char *ip) {
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM }, *address;
    char name[NI_MAXHOST];
    if (getaddrinfo(ip, NULL, &hints, &address) != 0) return;
    if (getnameinfo(address->ai_addr, address->ai_addrlen, name, sizeof name, NULL, 0, NI_NAMEREQD) == 0) printf(" %s", name);
    freeaddrinfo(address);
}

int main(int count, char **questions) {
    for (int i = 1; i < count; i++) {
        const char *name = strchr(questions[i], '/');
        if (!name++) return 2;
        printf("%s:", questions[i]);
        if (!strncmp(questions[i], "PTR/", 4)) name_of(name);
        else addresses(name, !strncmp(questions[i], "A/", 2) ? AF_INET : !strncmp(questions[i], "AAAA/", 5) ? AF_INET6 : AF_UNSPEC);
        putchar('\n');
    }
    return 0;
}
